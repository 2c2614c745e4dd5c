"""What the ensembles of a repository say of a member, and what they say of its new version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from reelkind.core import bundle as bundles
from reelkind.core.abstaining import with_joint
from reelkind.core.bundle import Bundle
from reelkind.deployment.embedded import packaged_bundle, temporary_repository
from reelkind.deployment.files import version_files
from reelkind.deployment.member_configs import deployed_member, neighbours, plainest_changed, with_bundle
from reelkind.deployment.versions import VersionedRepository
from reelkind.export.repository.repository import ensemble_config, standard_ensembles
from reelkind.serving.errors import ServingError
from tests.serving.new_version import write_new_version

LITE, LITE2 = packaged_bundle("lite"), packaged_bundle("lite2")
NAMES = ("classify_lite", "classify_lite2", "classify_ensemble", "features_lite")

pytestmark = pytest.mark.skipif(not (LITE2 / bundles.MANIFEST_NAME).is_file(), reason="needs both packaged bundles")


@pytest.fixture(scope="module")
def store(triton_runtime) -> Iterator[VersionedRepository]:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    with temporary_repository([LITE, LITE2], triton_runtime, ensembles=NAMES) as repository:
        yield VersionedRepository(repository)


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> Bundle:
    made = write_new_version(bundles.load(LITE), tmp_path_factory.mktemp("bundles") / "new", temperature=2.0)
    return replace(made, num_frames=24, trained=False, metrics={})


def parameters(config) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_ensembles_with_the_member_say_what_its_new_bundle_says(store, new):
    concerned = deployed_member(store, new)
    assert set(concerned) == {"classify_lite", "classify_ensemble", "features_lite"}
    changed = {name: parameters(config) for name, config in with_bundle(concerned, store.ensembles(), new).items()}
    ours, theirs = bundles.weights_hash(new), bundles.weights_hash(bundles.load(LITE2))
    assert changed["classify_lite"]["weights"] == ours
    assert changed["classify_ensemble"]["weights"] == f"{ours},{theirs}"
    for told in changed.values():
        assert (told["trained"], told["untrained"], told["num_frames"]) == ("false", "lite", "24")
        assert "abstain_below" not in told  # the new bundle measured none
    before = parameters(concerned["classify_ensemble"])
    assert changed["classify_ensemble"]["temperatures"].startswith("2.0,")
    told = {"weights", "temperatures", "trained", "untrained", "num_frames"}
    assert {key for key, value in changed["classify_ensemble"].items() if value != before[key]} == told


def test_ensembles_take_the_threshold_that_the_new_bundle_remembers(store, new):
    chosen = {"abstain_below": 0.625}
    found = with_joint({"abstain": {"abstain_below": 0.5}}, [new, bundles.load(LITE2)], chosen)
    new = replace(new, metrics=found)
    concerned = deployed_member(store, new)
    changed = {name: parameters(config) for name, config in with_bundle(concerned, store.ensembles(), new).items()}
    told = {name: each.get("abstain_below") for name, each in changed.items()}
    assert told == {"classify_lite": "0.5", "classify_ensemble": "0.625", "features_lite": None}


def test_a_neighbour_that_is_not_the_one_served_is_refused(store, new, tmp_path):
    retrained = write_new_version(bundles.load(LITE2), tmp_path / "retrained", temperature=3.0)
    concerned = deployed_member(store, new)
    with pytest.raises(ServingError, match=r"lite2, which is not served as it lies in .*retrained: .* --other"):
        neighbours(concerned, new, [retrained])
    with pytest.raises(ServingError, match=r"lite2, which is served from a folder that is not known here: .* --other"):
        neighbours(concerned, new, [new])
    served = bundles.load(LITE2)
    assert neighbours(concerned, new, [retrained, served]) == {"lite2": served}  # after a rollback the earlier one is
    files = version_files(store.folder, concerned, new, {"lite2": served}, None)
    assert set(files) == {"backbone_lite", "head_lite", "average_lite", "average_lite_lite2"}


def test_a_step_back_is_checked_at_the_size_of_the_member_that_changes(store, monkeypatch):
    earlier = store.ensembles()
    monkeypatch.setattr(store, "previous", lambda: None)
    assert parameters(plainest_changed(store))["members"] == "lite,lite2"  # nothing was changed: the first ensemble
    for config in earlier.values():
        for step in config.ensemble_scheduling.step:
            if step.model_name.endswith("_lite2"):
                step.model_version = 7
    monkeypatch.setattr(store, "previous", lambda: earlier)
    asked = parameters(plainest_changed(store))
    assert (asked["members"], asked["frame_size_px"]) == ("lite2", "260")  # promote asks at 260 px, too


def test_bundle_put_in_for_itself_changes_nothing(store):
    bundle = bundles.load(LITE)
    concerned = deployed_member(store, bundle)
    assert with_bundle(concerned, store.ensembles(), bundle) == concerned


def test_ensembles_tell_which_subcategories_the_new_version_has_learnt():
    def finer(name, *learnt):
        bundle = bundles.load(LITE)
        return replace(bundle, name=name, head=replace(bundle.head, num_subcategories=46), subcategories_learnt=learnt)

    members = {each.name: each for each in (finer("one", "moba", "pets"), finer("two", "pets", "cg3d_feature"))}
    ensembles = standard_ensembles(list(members.values()))
    before = {each.name: ensemble_config(each, members) for each in ensembles}
    members["one"] = finer("one", "anime_mecha", "cg3d_feature")
    after = {each.name: ensemble_config(each, members) for each in ensembles if "one" in each.members}
    assert after["classify_ensemble"].parameters["subcategories_learnt"].string_value == "cg3d_feature"
    assert with_bundle({name: before[name] for name in after}, before, members["one"]) == after


def test_other_sizes_are_named(store, new):
    with pytest.raises(ServingError, match=r"backbone_lite is served with views \[-1, -1, 3, 224, 224\].* 3, 96, 96\]"):
        deployed_member(store, replace(new, backbone=replace(new.backbone, frame_size_px=96)))
