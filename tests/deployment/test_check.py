"""The check before a promotion, with stand-ins for ensembles on a server; the real ones: test_promote.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from reelkind.core.specs import FP16_TOLERANCE
from reelkind.deployment import check as _promoting
from reelkind.deployment.check import ClipCheck, read_clips
from reelkind.export.pipelines.clips import ParityClip
from reelkind.export.pipelines.reference import OnnxPipeline
from reelkind.serving.errors import ServingError


@dataclass
class StandIn:
    """Answers as the bundle's graphs do, but for ``change``."""

    pipeline: OnnxPipeline
    change: Callable[[np.ndarray], np.ndarray] = lambda probabilities: probabilities
    kind: str = "classify"
    num_steps: int = 4

    @property
    def members(self) -> list[str]:
        return [member.name for member in self.pipeline.members]

    def __call__(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answer = dict(self.pipeline(feeds["frames"]))
        return answer | {"probabilities": self.change(answer["probabilities"])}


@pytest.fixture(scope="module")
def pipeline(served_bundle) -> OnnxPipeline:
    return OnnxPipeline(served_bundle.folder)


@pytest.fixture(scope="module")
def clips() -> list[ParityClip]:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 1, 224, 224, 3), np.uint8)
    return [ParityClip(f"clip {number}", frames) for number, frames in enumerate(pictures)]


def shifted(by: float) -> Callable[[np.ndarray], np.ndarray]:
    """Moves that much from the last class to the first."""
    return lambda probabilities: probabilities + np.float32([by, 0, 0, -by])


def reversed_classes(probabilities: np.ndarray) -> np.ndarray:
    return probabilities[:, ::-1]


def check(check: ClipCheck, pipeline: OnnxPipeline, change: Callable[[np.ndarray], np.ndarray]) -> str:
    check({"classify": StandIn(pipeline)}, {"classify": StandIn(pipeline, change)})
    return check.report()


def test_version_that_answers_as_its_graphs_passes(pipeline, clips, served_bundle):
    report = check(ClipCheck(clips, served_bundle), pipeline, shifted(0.0))
    assert report.splitlines()[-1] == "checked: as the bundle's graphs answer in this process, within 1e-04"
    assert [line.split()[-1] for line in report.splitlines()[1:-1]] == ["0.0e+00"] * 2


def test_version_that_answers_otherwise_than_its_graphs_is_refused(pipeline, clips, served_bundle):
    with pytest.raises(ServingError, match=r"on clip 0 .* differ by 1\.0e-03, allowed is 1e-04"):
        check(ClipCheck(clips, served_bundle), pipeline, shifted(1e-3))
    check(ClipCheck(clips, served_bundle, FP16_TOLERANCE), pipeline, shifted(1e-3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda probabilities: probabilities * np.nan, "gives no sound probabilities", id="no numbers"),
        pytest.param(lambda probabilities: probabilities[:, :3], "gives no sound probabilities", id="a class less"),
        pytest.param(lambda probabilities: probabilities / 2, "do not sum to 1", id="sum"),
    ],
)
def test_unsound_answers_are_refused_with_or_without_a_reference(pipeline, clips, change, words):
    with pytest.raises(ServingError, match=words):
        check(ClipCheck(clips), pipeline, change)


def test_without_a_reference_other_labels_on_most_clips_are_refused(pipeline, clips, served_bundle, monkeypatch):
    monkeypatch.setattr(_promoting, "REFERENCE_PACKAGES", ("no_such_package",))
    report = check(ClipCheck(clips, served_bundle), pipeline, shifted(1e-3))
    assert report.endswith("no reference without no_such_package")
    with pytest.raises(ServingError, match=r"labels 2 of 2 clips otherwise, and without no_such_package nothing here"):
        check(ClipCheck(clips, served_bundle), pipeline, reversed_classes)


def test_three_clips_are_read_where_none_are_given():
    clips = read_clips(None, num_frames=2, size_px=32)
    assert [clip.frames.shape for clip in clips] == [(2, 32, 32, 3)] * 3


def test_missing_clip_is_named():
    with pytest.raises(Exception, match=r"nowhere\.mp4"):
        read_clips([Path("nowhere.mp4")], num_frames=2, size_px=32)
