"""core.bundle: what is written is what is read, and damage is named."""

import hashlib
import json
import resource
from pathlib import Path

import pytest

from reelkind.core import bundle
from reelkind.core.bundle import BackboneInfo, Bundle, BundleError, HeadInfo


def make(name: str = "lite", **changes: object) -> Bundle:
    values = {
        "name": name,
        "backbone": BackboneInfo("efficientnet_v2_s", feature_dim=1280, frame_size_px=224),
        "head": HeadInfo(feature_dim=1280, width=512),
        "num_frames": 16,
        "temperature": 1.5,
        "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}},
        "provenance": {"data": "«clips»"},
    }
    return Bundle(**(values | changes))  # type: ignore[arg-type]


def test_a_saved_bundle_reads_back_equal(tmp_path: Path) -> None:
    saved = bundle.save(make(), tmp_path / "lite")
    assert saved.folder == tmp_path / "lite"
    assert bundle.load(tmp_path / "lite") == saved
    assert {**saved.__dict__, "folder": None} == make().__dict__


def test_what_a_head_has_learnt_is_kept_and_older_bundles_have_none(tmp_path: Path) -> None:
    head = HeadInfo(feature_dim=1280, width=512, num_subcategories=46)
    finer = make(head=head, subcategories_learnt=("moba", "pets"), subcategory_temperature=1.25)
    saved = bundle.save(finer, tmp_path / "finer")
    assert (saved.has_subcategories, saved.subcategories_learnt) == (True, ("moba", "pets"))
    assert {**saved.__dict__, "folder": None} == finer.__dict__
    older = bundle.save(make(), tmp_path / "older")
    raw = json.loads((tmp_path / "older" / "bundle.json").read_text())
    assert not [key for key in raw if key.startswith("subcategor")]
    assert (older.has_subcategories, older.subcategories_learnt, older.subcategory_temperature) == (False, (), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subcategories_learnt": ("moba", "dinosaurs")}, r"'lite', subcategories_learnt: unknown subcategories dinos"),
        ({"subcategories_learnt": ("moba", "moba")}, "occur twice"),
        ({"subcategories_learnt": ("moba",), "head": HeadInfo(1280, 512)}, "its head has no output for them"),
        ({"subcategory_temperature": 0.0}, "subcategory_temperature must be above 0"),
        ({"head": HeadInfo(1280, 512, num_subcategories=7)}, "has 7 subcategories, this release knows 46"),
    ],
)
def test_subcategories_that_cannot_be_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"head": HeadInfo(1280, 512, num_subcategories=46), **changes})


def test_a_full_disk_costs_no_bundle(tmp_path: Path) -> None:
    saved = bundle.save(make(), tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"bundle\.json"):
            bundle.save(make(temperature=2.0), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert bundle.load(tmp_path) == saved
    assert [file.name for file in tmp_path.iterdir()] == ["bundle.json"]


def test_a_folder_without_a_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle in .*: bundle\.json is missing"):
        bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda raw: raw.update(format_version=99), "has format version 99, this release reads 1", id="v99"
        ),
        pytest.param(lambda raw: raw.pop("format_version"), "has format version None", id="no-version"),
        pytest.param(lambda raw: raw.pop("backbone"), "does not describe a bundle", id="key-missing"),
        pytest.param(lambda raw: raw.update(extra=1), "does not describe a bundle", id="unknown-key"),
        pytest.param(lambda raw: raw.update(classes=["a", "b"]), "has classes", id="other-classes"),
        pytest.param(lambda raw: raw["head"].update(feature_dim=7), "head takes 7", id="widths-disagree"),
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, damage, message: str) -> None:
    bundle.save(make(), tmp_path)
    raw = json.loads((tmp_path / "bundle.json").read_text())
    damage(raw)
    (tmp_path / "bundle.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=message):
        bundle.load(tmp_path)


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="is not JSON"):
        bundle.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", '"x"', '{"format_version": 1, "backbone": 3}'])
def test_json_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bundle.json").write_text(text)
    with pytest.raises(BundleError):
        bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", "1st"])
def test_names_that_cannot_name_models_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits and '_'"):
        make(name)


@pytest.mark.parametrize("name", ["ensemble", "tta", "features"])
def test_names_with_a_meaning_of_their_own_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"bundle name '{name}' is taken"):
        make(name)


def test_threshold_of_abstaining_is_validations_if_there_is_one() -> None:
    assert make().abstain_below is None
    assert make(metrics={"abstain": {"abstain_below": 0.8942553179519763}}).abstain_below == 0.8942553179519763


def test_a_head_whose_heads_do_not_divide_it_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of"):
        HeadInfo(feature_dim=8, width=12, num_attention_heads=4)


def test_the_hash_is_over_both_weight_files(tmp_path: Path) -> None:
    saved = bundle.save(make(), tmp_path)
    with pytest.raises(BundleError, match=r"lacks backbone\.safetensors"):
        bundle.weights_hash(saved)
    saved.path("backbone.safetensors").write_bytes(b"one")
    saved.path("head.safetensors").write_bytes(b"two")
    assert bundle.weights_hash(saved) == hashlib.sha256(b"onetwo").hexdigest()


def test_a_bundle_that_is_not_on_disk_has_no_paths() -> None:
    with pytest.raises(BundleError, match="not on disk yet"):
        make().path("x")
