"""Model repositories: complete, parseable, and as checked in."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.core import bundle as bundles_on_disk
from reelkind.core import specs
from reelkind.core.abstaining import with_joint
from reelkind.core.bundle import Bundle
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.deployment.embedded import DEFAULT_BUNDLE
from reelkind.export.errors import ExportError
from reelkind.export.graphs.canonical import with_metadata
from reelkind.export.graphs.graphs import build_preprocess
from reelkind.export.onnx_files import export_average
from reelkind.export.repository.execution import FLAVOURS
from reelkind.export.repository.graph_files import metadata_entries, origin
from reelkind.export.repository.repository import ensemble_config, standard_ensembles, write_repository

COMPOSING = ("preprocess", "preprocess_tta", "backbone_lite", "head_lite", "average_lite")
COMPOSING += ("temporal_views", "temporal_attention")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def config(folder: Path, name: str) -> pb.ModelConfig:
    return text_format.Parse((folder / name / "config.pbtxt").read_text(encoding="utf-8"), pb.ModelConfig())


@pytest.fixture(scope="module", params=FLAVOURS)
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lite: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("repository") / request.param
    names = write_repository(folder, standard_ensembles([lite]), [lite], request.param, num_threads=2)
    assert set(names) == {path.name for path in folder.iterdir()}
    return folder


def test_every_config_parses_and_has_a_version_folder(repository: Path) -> None:
    for model in repository.iterdir():
        parsed = config(repository, model.name)
        assert parsed.name == model.name
        assert parsed.max_batch_size == specs.MAX_BATCH
        assert (model / "1").is_dir()


@pytest.mark.parametrize("name", ["classify_tta", "features_lite", "classify_features_lite_tta"])
def test_ensemble_wiring_is_closed(repository: Path, name: str) -> None:
    ensemble = config(repository, name)
    known = {tensor.name for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = config(repository, step.model_name)
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        assert set(step.output_map) == {tensor.name for tensor in model.output}
        assert set(step.input_map.values()) <= known
        known |= set(step.output_map.values())
    assert {tensor.name for tensor in ensemble.output} <= known


def parameters(folder: Path, name: str) -> dict[str, str]:
    return {key: value.string_value for key, value in config(folder, name).parameters.items()}


def test_ensemble_tells_a_client_what_it_must_know(repository: Path, lite: Bundle) -> None:
    told = parameters(repository, "classify_tta")
    del told["reelkind_version"]
    assert told == {
        "contract_version": "1",
        "kind": "classify",
        "num_frames": "16",
        "frame_size_px": "224",
        "classes": "animation,gaming,natural,flat",
        "members": "lite",
        "member_weights": "1",
        "temperatures": repr(lite.temperature),
        "feature_dims": str(lite.backbone.feature_dim),
        "views": "identity,flip,narrow,narrow_flip",
        "temporal_views": "forward,even,odd",
        "trained": "true",
        "untrained": "",
        "weights": bundles_on_disk.weights_hash(lite),
        "abstain_below": str(lite.metrics["abstain"]["abstain_below"]),
        "subcategories_learnt": ",".join(lite.subcategories_learnt),
    }


def test_features_tell_their_kind_and_no_threshold(repository: Path) -> None:
    features, head = (parameters(repository, name) for name in ("features_lite_tta", "classify_features_lite_tta"))
    assert (features["kind"], features["views"]) == ("features", "identity,flip,narrow,narrow_flip")
    assert "abstain_below" not in features
    assert (head["kind"], head["views"], head["temporal_views"]) == ("classify_features", "any", "forward,even,odd")


def test_ensembles_tell_which_subcategories_they_name(shipped: Bundle) -> None:
    def finer(name: str, *learnt: str) -> Bundle:
        head = replace(shipped.head, num_subcategories=46)
        return replace(shipped, name=name, head=head, subcategories_learnt=learnt)

    plain = replace(shipped, head=replace(shipped.head, num_subcategories=0), subcategories_learnt=())
    members = {each.name: each for each in (finer("one", "pets", "moba"), finer("two", "moba", "cg3d_feature"), plain)}

    def told(ensemble: str, *names: str) -> pb.ModelConfig:
        several = [members[name] for name in names]
        (found,) = [each for each in standard_ensembles(several) if each.name == ensemble]
        return ensemble_config(found, members)

    for kind in ("classify", "classify_tta_fast", "classify_tta", "classify_features", "classify_features_tta"):
        alone = told(kind, "one")
        assert [(each.name, list(each.dims)) for each in alone.output][-1] == ("subcategories", [46])
        assert alone.parameters["subcategories_learnt"].string_value == "moba,pets"
    assert told("classify_ensemble", "one", "two").parameters["subcategories_learnt"].string_value == "moba"
    for without in (told("classify_ensemble", "one", "lite"), told("features", "one"), told("classify", "lite")):
        assert "subcategories_learnt" not in without.parameters
        assert "subcategories" not in [each.name for each in without.output]


def test_graphs_of_other_subcategories_are_of_another_origin(shipped: Bundle) -> None:
    finer = replace(shipped, head=replace(shipped.head, num_subcategories=46), subcategories_learnt=("moba",))
    several = [
        shipped,
        finer,
        replace(finer, subcategories_learnt=("pets",)),
        replace(finer, subcategory_temperature=2.0),
    ]
    origins = [origin(specs.average_graph([each]), {each.name: each}) for each in several]
    assert len(set(origins)) == 4
    assert len({origin(specs.head_graph(each), {each.name: each}) for each in several}) == 1


def test_networks_batch_and_composing_models_warm_up(repository: Path) -> None:
    for name in COMPOSING:
        model = config(repository, name)
        assert model.HasField("dynamic_batching") == name.startswith(("backbone", "head"))
        assert [warmup.batch_size for warmup in model.model_warmup] == [1, 1]
        for warmup, num_frames in zip(model.model_warmup, (1, 16), strict=True):
            assert set(warmup.inputs) == {tensor.name for tensor in model.input}
            for tensor in model.input:
                dims = warmup.inputs[tensor.name].dims
                assert len(dims) == len(tensor.dims)
                assert all(free in (-1, fixed) for free, fixed in zip(tensor.dims, dims, strict=True))
            assert name == "average_lite" or num_frames in next(iter(warmup.inputs.values())).dims


def limits(folder: Path) -> dict[str, int]:
    """Composing model -> requests that may wait for it, where it refuses any."""
    found = {}
    for model in folder.iterdir():
        name, batching = model.name, config(folder, model.name).dynamic_batching
        if batching.HasField("default_queue_policy"):
            policy = batching.default_queue_policy
            assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
            assert (policy.default_timeout_microseconds, policy.allow_timeout_override) == (60_000_000, True)
            found[name] = policy.max_queue_size
    return found


def test_who_waits_is_limited_where_another_instance_wakes_the_batcher(repository: Path) -> None:
    on_cpu = config(repository, "backbone_lite").backend == "python"
    assert limits(repository) == ({"backbone_lite": 64} if on_cpu else {})


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_who_waits_is_limited_where_asked(tmp_path: Path, lite: Bundle, flavour: str) -> None:
    write_repository(tmp_path, standard_ensembles([lite], ["classify"]), [lite], flavour, max_queue=7)
    assert limits(tmp_path) == {"backbone_lite": 7}


def test_temporal_views_are_warmed_up_with_what_comes_out_of_them(repository: Path) -> None:
    for warmup in config(repository, "temporal_attention").model_warmup:
        assert warmup.inputs["pass_attention"].dims[0] == len(specs.TEMPORAL_VIEWS)


def test_only_a_backbone_with_a_batch_to_gain_waits_for_company(repository: Path) -> None:
    delays = {
        model.name: config(repository, model.name).dynamic_batching.max_queue_delay_microseconds
        for model in repository.iterdir()
    }
    on_cpu = config(repository, "backbone_lite").backend == "python"  # where a batch takes as long as its parts
    assert {name for name, delay in delays.items() if delay} == (set() if on_cpu else {"backbone_lite"})


def test_backbone_on_a_cpu_has_two_instances(repository: Path) -> None:
    counts = {name: sum(group.count for group in config(repository, name).instance_group) for name in COMPOSING}
    on_cpu = config(repository, "backbone_lite").backend == "python"
    assert counts.pop("backbone_lite") == (specs.CPU_BACKBONE_INSTANCES if on_cpu else 1)
    assert set(counts.values()) == {1}


def test_flavour_chooses_who_executes_and_nothing_else(repository: Path) -> None:
    backbone, average = config(repository, "backbone_lite"), config(repository, "average_lite")
    present = {path.name for path in (repository / "backbone_lite" / "1").iterdir()} - {".gitkeep"}
    expected = {
        "tensorrt": ("", "tensorrt_plan", "onnxruntime", set()),
        "onnxruntime": ("onnxruntime", "", "onnxruntime", {"model.onnx", "SHA256SUMS"}),
        "python": (
            "python",
            "",
            "python",
            {"model.onnx", "SHA256SUMS", "model.py", "executors.py", "numpy_guard.py", "checksums.py"},
        ),
    }
    assert (backbone.backend, backbone.platform, average.backend, present) == expected[repository.name]
    assert average.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    assert (repository / "average_lite" / "1" / "model.onnx").is_file()


def test_python_flavour_tells_its_runner_what_to_run(tmp_path: Path, lite: Bundle, root: Path) -> None:
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "python", num_threads=2)
    parameters = config(tmp_path, "head_lite").parameters
    assert parameters["model_file"].string_value == "model.onnx"
    assert parameters["num_threads"].string_value == "1"  # a cheap graph
    backbone = config(tmp_path, "backbone_lite").parameters
    assert backbone["num_threads"].string_value == "2"
    assert backbone["niceness"].string_value == str(specs.CPU_BACKBONE_NICENESS)
    assert "niceness" not in parameters
    assert backbone["frames_per_run"].string_value == str(specs.CPU_FRAMES_PER_RUN)
    assert "frames_per_run" not in parameters  # the head's graph mixes frames
    for name in ("model.py", "executors.py", "numpy_guard.py"):
        source = root / "serving" / "runner" / name.replace("model", "runner")
        assert (tmp_path / "head_lite" / "1" / name).read_bytes() == source.read_bytes()


def test_labels_lie_beside_the_model_that_gives_probabilities(repository: Path) -> None:
    (probabilities,) = [tensor for tensor in config(repository, "average_lite").output if tensor.label_filename]
    assert probabilities.name == "probabilities"
    assert tuple((repository / "average_lite" / probabilities.label_filename).read_text().split()) == CLASSES


def test_a_run_may_load_what_it_needs_and_nothing_else(tmp_path: Path, lite: Bundle) -> None:
    names = ["classify", "classify_tta_fast"]
    written = write_repository(tmp_path, standard_ensembles([lite], names), [lite], "python")
    assert {path.name for path in tmp_path.iterdir()} == set(written) == {*COMPOSING, *names} - {"preprocess_tta"}
    with pytest.raises(ExportError, match=r"no ensemble is called classify_lite9 \(there are: classify, "):
        standard_ensembles([lite], ["classify_lite9"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, lite: Bundle) -> tuple[Bundle, Bundle]:
    """lite, and its twin that sees larger frames and says that it is untrained."""
    folder = tmp_path_factory.mktemp("bundles")
    first, twin = copied(lite, folder / "lite"), copied(lite, folder / "dice")
    size = replace(twin.backbone, frame_size_px=256)
    twin = bundles_on_disk.save(replace(twin, name="dice", backbone=size, trained=False), twin.path())
    export_average([twin])
    for views in specs.VIEWS:
        graph = specs.preprocess_graph(256, views)
        file = with_metadata(build_preprocess(256, views), metadata_entries(graph, {}))
        twin.path("onnx", graph.file).write_bytes(file)
    return first, twin


def test_members_of_two_sizes_make_one_deployment(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    write_repository(tmp_path, standard_ensembles(pair), pair, "onnxruntime")
    told = parameters(tmp_path, "classify_ensemble")
    assert (told["members"], told["frame_size_px"], told["member_weights"]) == ("dice,lite", "256", "0.5,0.5")
    assert told["feature_dims"] == ",".join([str(pair[0].backbone.feature_dim)] * 2)
    assert (told["trained"], told["untrained"]) == ("false", "dice")
    assert "abstain_below" not in told
    assert parameters(tmp_path, "classify")["members"] == "lite"
    steps = [step.model_name for step in config(tmp_path, "classify_ensemble").ensemble_scheduling.step]
    assert {"preprocess", "preprocess_256", "average_dice_lite"} <= set(steps)


def test_members_count_as_much_as_the_exported_average_says(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    lite, other = copied(pair[0], tmp_path / "lite"), copied(pair[1], tmp_path / "dice")
    export_average([lite, other], weights=[3, 1])
    assert other.path("onnx", "average_dice_lite.onnx").is_file()  # with the first by name
    for members in ((lite, other), (other, lite)):
        write_repository(tmp_path / "repository", standard_ensembles(members), members, "python")
        told = parameters(tmp_path / "repository", "classify_ensemble")
        assert (told["members"], told["member_weights"]) == ("dice,lite", "0.25,0.75")
    graph = (tmp_path / "repository" / "average_dice_lite" / "1" / "model.onnx").read_bytes()
    assert graph == other.path("onnx", "average_dice_lite.onnx").read_bytes()


def test_a_joint_threshold_is_told_of_equal_shares_only(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    lite, other = copied(pair[0], tmp_path / "lite"), copied(pair[1], tmp_path / "dice")
    metrics = with_joint(lite.metrics, [lite, other], {"abstain_below": 0.625})
    members = bundles_on_disk.save(replace(lite, metrics=metrics), lite.path()), other
    write_repository(tmp_path / "equal", standard_ensembles(members), members, "python")
    for name in ("classify_ensemble", "classify_ensemble_tta", "classify_features_ensemble"):
        assert parameters(tmp_path / "equal", name)["abstain_below"] == "0.625"
    assert "abstain_below" not in parameters(tmp_path / "equal", "features_ensemble")
    export_average(members, weights=[3, 1])
    write_repository(tmp_path / "unequal", standard_ensembles(members), members, "python")
    assert "abstain_below" not in parameters(tmp_path / "unequal", "classify_ensemble")


def test_an_ensemble_that_stays_must_be_of_the_members_that_are_written(
    tmp_path: Path, pair: tuple[Bundle, Bundle]
) -> None:
    repository = tmp_path / "repository"
    write_repository(repository, standard_ensembles(pair), pair, "python")
    lite = pair[0]
    write_repository(repository, standard_ensembles([lite]), [lite], "python")
    before = files(repository)
    other = bundles_on_disk.save(replace(lite, temperature=3.0), copied(lite, tmp_path / "other").path())
    export_average([other])
    with pytest.raises(ExportError, match=r"classify_ensemble averages or reads another lite than .*other, and would"):
        write_repository(repository, standard_ensembles([other]), [other], "python")
    assert files(repository) == before


def test_an_average_that_cannot_be_made_says_how(
    tmp_path: Path, pair: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)  # stands in for an installation without it
    for name in ("canonical", "graphs"):
        monkeypatch.delitem(sys.modules, f"reelkind.export.graphs.{name}", raising=False)
    wanted = r"average_dice_lite.onnx .* needs the package onnx; .* reelkind export onnx --bundle \S+ --bundle \S+"
    with pytest.raises(ExportError, match=wanted):
        write_repository(tmp_path, standard_ensembles(pair), pair, "python")


def test_views_of_another_release_are_refused(tmp_path: Path, lite: Bundle) -> None:
    older = copied(lite, tmp_path / "lite")
    views = older.path("onnx", "preprocess_tta.onnx")
    views.write_bytes(views.read_bytes().replace(b"narrow_flip", b"narrow_turn"))
    with pytest.raises(ExportError, match=r"preprocess_tta.onnx was not made for the views of this release; run: "):
        write_repository(tmp_path / "repository", standard_ensembles([older]), [older], "python")


def test_two_members_of_one_name_are_refused(lite: Bundle) -> None:
    with pytest.raises(ExportError, match="different names, got lite, lite"):
        standard_ensembles([lite, lite])


def test_writing_again_removes_what_was_there(tmp_path: Path, lite: Bundle) -> None:
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "python")
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "onnxruntime")
    assert not list(tmp_path.rglob("model.py"))


def test_what_is_no_model_is_not_overwritten(tmp_path: Path, lite: Bundle) -> None:
    notes = tmp_path / "classify" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(ExportError, match="classify is in the way"):
        write_repository(tmp_path, standard_ensembles([lite]), [lite], "python")
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("missing", ["head.onnx", "average.onnx"])
def test_missing_graphs_say_how_to_make_them(tmp_path: Path, lite: Bundle, missing: str) -> None:
    copy = copied(lite, tmp_path / "lite")
    copy.path("onnx", missing).unlink()
    with pytest.raises(ExportError, match=rf"{missing} .* run: reelkind export onnx --bundle .*lite"):
        write_repository(tmp_path / "repository", standard_ensembles([copy]), [copy], "python")


def test_graphs_of_another_temperature_are_refused(tmp_path: Path, lite: Bundle) -> None:
    warmer = replace(copied(lite, tmp_path / "lite"), temperature=2.5)
    with pytest.raises(ExportError, match=r"average.onnx was not made from the weights and temperature"):
        write_repository(tmp_path / "repository", standard_ensembles([warmer]), [warmer], "python")


def test_unknown_flavours_and_members_are_refused(tmp_path: Path, lite: Bundle) -> None:
    with pytest.raises(ExportError, match="unknown flavour 'openvino'"):
        write_repository(tmp_path, standard_ensembles([lite]), [lite], "openvino")
    with pytest.raises(ExportError, match="no bundle given for lite"):
        write_repository(tmp_path, standard_ensembles([lite]), [], "python")


def test_writing_a_repository_needs_neither_torch_nor_onnx() -> None:
    module = "reelkind.export.repository.repository"
    code = f"import sys, {module}; print(*{{'torch', 'onnx', 'onnxruntime'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_checked_in_repository_is_up_to_date(tmp_path: Path, root: Path) -> None:
    default = bundles_on_disk.load(root / "bundles" / DEFAULT_BUNDLE)
    write_repository(tmp_path, standard_ensembles([default]), [default], "tensorrt", graphs=False)
    folder = root / "model_repository"
    unversioned = {"README.md", ".gitignore"} | {str(path.relative_to(folder)) for path in folder.glob("*/1/model.*")}
    kept = {name: data for name, data in files(folder).items() if name not in unversioned}
    assert files(tmp_path) == kept, "run: make export"


def copied(bundle: Bundle, folder: Path) -> Bundle:
    for path in bundle.path().rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(bundle.path())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return bundles_on_disk.load(folder)


def test_versions_that_were_promoted_are_not_written_over(lite: Bundle, tmp_path: Path) -> None:
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "python")
    (tmp_path / "classify" / "generations" / "1").mkdir(parents=True)
    (tmp_path / "classify" / "generations" / "current").symlink_to("1")
    before = files(tmp_path)
    with pytest.raises(ExportError, match=r"promoted .*: choose another folder"):
        write_repository(tmp_path, standard_ensembles([lite]), [lite], "python")
    assert files(tmp_path) == before
