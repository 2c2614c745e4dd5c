"""Rounds to rows: ratios, accuracy, and peers that cannot run or break down."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reelkind.benchmarks import labelled_clips
from reelkind.benchmarks.peers import peers
from reelkind.benchmarks.peers.makers import OURS, Setting
from reelkind.benchmarks.peers.peers import PeersError, measure
from reelkind.deployment.embedded import packaged_bundle
from reelkind.serving.install.runtime import Runtime

CLIPS = [(Path("a"), "flat"), (Path("b"), "natural")]


@contextmanager
def all_flat(setting: Setting) -> Iterator[peers.Label]:
    yield lambda path: "flat"


@contextmanager
def right(setting: Setting) -> Iterator[peers.Label]:
    yield lambda path: dict(CLIPS)[path]


@contextmanager
def absent(setting: Setting) -> Iterator[peers.Label]:
    raise ImportError("no module named that\nand more of no use")
    yield


@contextmanager
def breaking(setting: Setting) -> Iterator[peers.Label]:
    answers = iter(["flat"])  # for the first question alone

    yield lambda path: next(answers)


@pytest.fixture
def some_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        OURS: (right, "ours"),
        "flat": (all_flat, "says flat"),
        "absent": (absent, "is not installed"),
        "breaking": (breaking, "ends early"),
        "random": (all_flat, "other weights: cost only"),
    }
    monkeypatch.setattr(peers, "PEERS", made)


@pytest.mark.usefixtures("some_peers")
def test_rows_have_rates_accuracy_and_reasons() -> None:
    said: list[str] = []
    report = measure(packaged_bundle("lite"), CLIPS, callers=2, repeats=3, progress=said.append)
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == [OURS, "flat", "absent", "breaking", "random"]
    assert (rows[OURS]["accuracy"], rows["flat"]["accuracy"], rows["random"]["accuracy"]) == (1.0, 0.5, None)
    assert (rows[OURS]["reelkind_to_this"], rows["flat"]["same_label_as_reelkind"]) == (1.0, 0.5)
    assert rows["absent"]["reason"] == "cannot run here: ImportError: no module named that"
    assert rows["breaking"]["reason"].startswith("broke down")
    assert len(rows["flat"]["rounds"]) == 3
    assert all("clips_per_s" not in rows[name] for name in ("absent", "breaking"))
    page = peers.page(report)
    assert "| absent | cannot run here" in page
    assert "other weights" in page
    assert report["environment"]["clips"] == 2


@pytest.mark.usefixtures("some_peers")
def test_peers_are_chosen_by_name_and_ours_is_always_there() -> None:
    report = measure(packaged_bundle("lite"), CLIPS, callers=1, repeats=1, wanted=["flat"], progress=str)
    assert [row["name"] for row in report["rows"]] == [OURS, "flat"]
    with pytest.raises(PeersError, match="nobody"):
        measure(packaged_bundle("lite"), CLIPS, callers=1, repeats=1, wanted=["nobody"], progress=str)


def test_clips_are_spread_over_the_classes() -> None:
    every = labelled_clips.labelled(None, (), None)
    assert sorted(label for _, label in every) == ["animation", "flat", "gaming", "natural"]
    assert len(labelled_clips.labelled(None, (), 3)) == 3


@pytest.mark.triton
def test_real_peers_give_the_labels_of_the_server(triton_runtime: Runtime) -> None:
    wanted = ["onnxruntime", "onnxruntime as served"]
    wanted += ["openvino fp32"] if importlib.util.find_spec("openvino") else []
    clips = labelled_clips.labelled(None, (), 2)
    report = measure(packaged_bundle("lite"), clips, callers=2, repeats=1, wanted=wanted, progress=str)
    assert [row["name"] for row in report["rows"]] == [OURS, *wanted]
    assert [row.get("reason") for row in report["rows"]] == [None] * (1 + len(wanted))
    assert {row["same_label_as_reelkind"] for row in report["rows"]} == {1.0}
