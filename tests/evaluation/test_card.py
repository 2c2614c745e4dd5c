import dataclasses
import tomllib
from pathlib import Path

import pytest

from reelkind.core import bundle as bundles
from reelkind.core.abstaining import JOINT, threshold
from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, BackboneInfo, Bundle, HeadInfo
from reelkind.evaluation.card import ABSTAIN, CARD_NAME, EVALUATION, card, record
from reelkind.evaluation.ensembling import ensemble_summary
from reelkind.evaluation.report import for_member
from reelkind.evaluation.shortcuts import shortcut_summary
from reelkind.evaluation.summary import member_summary

from .made import made_predictions

ROOT = Path(__file__).parents[2]
NOTES = "## What each step brought\n\nHand-written words."


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle as training leaves it, but for its weights."""
    files = {"works": 3, "files": {"clips": {"flat": 3}}}
    metrics = {
        **member_summary(made_predictions("tiny"), num_bootstraps=10),
        "wrong": ["clip_7"],
    }
    made = bundles.save(
        Bundle(
            "tiny",
            BackboneInfo("mobilenet_v2", 8, 32),
            HeadInfo(8, 16),
            num_frames=4,
            metrics={"val": metrics},
            provenance={
                "starting_weights": "none",
                "training_data": files,
                "validation_data": files,
                "split": "by work",
            },
        ),
        tmp_path / "tiny",
    )
    made.path(CARD_NAME).write_text(card(made, NOTES), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def report() -> dict:
    members = [made_predictions(name) for name in ("tiny", "other")]
    return {
        "what": "made-up predictions",
        "split": "val",
        "members": {each.member: member_summary(each, num_bootstraps=10) for each in members},
        "ensemble": ensemble_summary(members, num_bootstraps=10),
        "shortcuts": {"tiny": shortcut_summary(members[0], {"flip": members[1]}, num_bootstraps=10)},
        "problems": {},
    }


def test_the_shipped_card_is_what_its_bundle_and_notes_give() -> None:
    folder = ROOT / "bundles" / "lite"
    if not (folder / CARD_NAME).is_file():
        pytest.skip("no bundle in this checkout")
    notes = tomllib.loads((ROOT / "training" / "configs" / "lite.toml").read_text(encoding="utf-8")).get("notes", "")
    assert card(bundles.load(folder), notes) == (folder / CARD_NAME).read_text(encoding="utf-8")


def test_a_recorded_evaluation_stands_in_card_and_manifest(bundle: Bundle, report: dict, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"a picture")
    recorded = record(bundle, "val", for_member(report, "tiny"), {"confusion.png": picture})
    page = recorded.path(CARD_NAME).read_text(encoding="utf-8")
    for words in ("## Evaluation on val", "### Ensemble", "### Shortcuts", "plots/val_confusion.png", NOTES, "clip_7"):
        assert words in page
    assert page.index("## What each step brought") < page.index("## Evaluation") < page.index("## Data and provenance")
    assert recorded.path("plots", "val_confusion.png").read_bytes() == b"a picture"
    threshold = report["members"]["tiny"]["abstain"]["abstain_below"]
    assert recorded.metrics[ABSTAIN]["abstain_below"] == threshold
    assert recorded.metrics["val"] == bundle.metrics["val"]


def test_a_card_made_anew_is_the_recorded_one(bundle: Bundle, report: dict) -> None:
    recorded = record(bundle, "val", for_member(report, "tiny"), {})
    assert card(recorded, NOTES) == recorded.path(CARD_NAME).read_text(encoding="utf-8")


def test_recording_again_replaces_and_another_split_stands_beside(bundle: Bundle, report: dict) -> None:
    once = record(bundle, "val", for_member(report, "tiny"), {})
    page = once.path(CARD_NAME).read_text(encoding="utf-8")
    twice = record(once, "val", for_member(report, "tiny"), {})
    assert twice.path(CARD_NAME).read_text(encoding="utf-8") == page
    both = record(twice, "test", for_member({**report, "split": "test"}, "tiny"), {})
    assert list(both.metrics[EVALUATION]) == ["val", "test"]
    assert both.path(CARD_NAME).read_text(encoding="utf-8").count("## Evaluation on") == 2
    assert both.metrics[ABSTAIN] == twice.metrics[ABSTAIN]  # a test split chooses nothing


def test_members_measured_together_remember_their_threshold(bundle: Bundle, report: dict, tmp_path: Path) -> None:
    other = bundles.save(dataclasses.replace(bundle, name="other"), tmp_path / "other")
    for each in (bundle, other):
        each.path(BACKBONE_WEIGHTS_NAME).write_bytes(b"weights")
        each.path(HEAD_WEIGHTS_NAME).write_bytes(each.name.encode())
    recorded = record(bundle, "val", for_member(report, "tiny"), {}, [bundle, other])
    assert threshold([recorded, other]) == report["ensemble"]["abstain"]["abstain_below"]
    test = record(recorded, "test", for_member({**report, "split": "test"}, "tiny"), {}, [recorded, other])
    assert test.metrics[JOINT] == recorded.metrics[JOINT]


def test_a_hand_written_card_keeps_every_word(bundle: Bundle, report: dict) -> None:
    bundle.path(CARD_NAME).write_text("# Mine\n\nMy words.\n", encoding="utf-8")
    record(bundle, "val", for_member(report, "tiny"), {})
    page = bundle.path(CARD_NAME).read_text(encoding="utf-8")
    assert page.startswith("# Mine\n\nMy words.\n")
    assert "## Evaluation on val" in page


def test_run_and_collapses_are_told(bundle: Bundle) -> None:
    run = {
        "config_sha256": "c" * 64,
        "data_sha256": "d" * 64,
        "git_revision": "a" * 40,
        "git_dirty": True,
        "seed": 3,
        "versions": {"torch": "2.14"},
        "device": "CPU, made up",
        "num_processes": 1,
        "num_threads": 1,
        "seconds": {"head": 12.0},
        "resumed": False,
        "peak_memory_mib": 900,
    }
    told = dataclasses.replace(
        bundle,
        provenance={**bundle.provenance, "run": run},
        metrics={**bundle.metrics, "collapsed": ["fold 1: never says flat"]},
    )
    page = card(told)
    for words in ("900 MiB", "CPU, made up", "head 12 s", "never says flat"):
        assert words in page
