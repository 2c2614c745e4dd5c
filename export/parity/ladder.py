"""The parity ladder: the same clips through PyTorch, the exported graphs and a server, and how far they differ.

    PyTorch ─► ONNX FP32 ─► ONNX FP16 ─► engine ─► Triton ─► client

Every rung is compared with the reference, not with its neighbour, so that small differences cannot add up unseen. One
that fails is asked where it began to differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np

from reelkind.core.bundle import Bundle, weights_hash
from reelkind.core.specs import FP32_TOLERANCE, Tolerance

from ..pipelines.clips import ParityClip
from ..pipelines.steps import Tensors

_JUDGED = ("probabilities", "frame_probabilities", "subcategories")
_PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu", "numpy", "tensorrt", "tensorrt-rtx")

Pipeline = Callable[[np.ndarray], Tensors]
"""uint8 frames [B, T, S, S, 3] -> at least ``probabilities`` and ``attention``; of frames and subcategories what the
reference gives."""


@dataclass(frozen=True)
class Rung:
    """One way of computing the answer, and how far it may be from the reference.

    Attributes:
        name: for the report.
        pipeline: computes it.
        tolerance: what is allowed.
        locate: frames of a clip on which it failed -> where it begins to differ, in words.
    """

    name: str
    pipeline: Pipeline
    tolerance: Tolerance = FP32_TOLERANCE
    locate: Callable[[np.ndarray], str] | None = None


@dataclass(frozen=True)
class RungReport:
    """How far one rung is from the reference.

    Attributes:
        name: of the rung.
        num_clips: clips compared; one video at two numbers of frames counts twice.
        max_abs: largest absolute difference of any probability, of classes, of a frame's classes or of subcategories.
        max_abs_attention: the same of any frame's attention; not judged.
        top1_agreement: share of clips with the same label.
        worst_clip: where ``max_abs`` was found.
        worst_num_frames: T of that clip.
        tolerance: what was allowed.
        divergence: where a rung that failed begins to differ on the worst clip; empty if it passed or cannot say.
    """

    name: str
    num_clips: int
    max_abs: float
    max_abs_attention: float
    top1_agreement: float
    worst_clip: str
    worst_num_frames: int
    tolerance: Tolerance
    divergence: str = ""

    @property
    def passed(self) -> bool:
        """Whether the rung keeps its tolerance; differences that are not numbers never do."""
        within = self.max_abs <= self.tolerance.max_abs and self.top1_agreement >= self.tolerance.top1_agreement
        return bool(within)


def climb(reference: Pipeline, rungs: Sequence[Rung], clips: Iterable[ParityClip]) -> list[RungReport]:
    """Send every clip through the reference and every rung.

    Raises:
        ValueError: if there are no clips.
    """
    differences: list[list[_Difference]] = [[] for _ in rungs]
    worst: list[np.ndarray | None] = [None for _ in rungs]  # frames; the clips themselves may be a stream
    for clip in clips:
        expected = reference(clip.frames[None])
        for number, rung in enumerate(rungs):
            found = _difference(clip, expected, rung.pipeline(clip.frames[None]))
            if all(found.probabilities > earlier.probabilities for earlier in differences[number]):
                worst[number] = clip.frames[None]
            differences[number].append(found)
    reports = [_report(rung, found) for rung, found in zip(rungs, differences, strict=True)]
    return [
        report
        if report.passed or rung.locate is None or frames is None
        else replace(report, divergence=rung.locate(frames))
        for report, rung, frames in zip(reports, rungs, worst, strict=True)
    ]


def table(reports: Sequence[RungReport], reference_name: str) -> str:
    """The ladder as text, one line a rung."""
    rows = [f"{'rung':<16} {'clips':>5} {'max |dp|':>9} {'allowed':>8} {'top-1':>7} {'required':>8}  verdict"]
    rows.append(f"{reference_name:<16} {reports[0].num_clips if reports else 0:>5} {'reference':>9}")
    for report in reports:
        rows.append(
            f"{report.name:<16} {report.num_clips:>5} {report.max_abs:>9.1e} {report.tolerance.max_abs:>8.0e} "
            f"{report.top1_agreement:>7.1%} {report.tolerance.top1_agreement:>8.1%}  "
            + ("pass" if report.passed else f"FAIL on {report.worst_clip} at T={report.worst_num_frames}")
        )
        if report.divergence:
            rows.append(f"{'':<16} {report.divergence}")
    return "\n".join(rows)


def as_json(reports: Sequence[RungReport], bundles: Sequence[Bundle], **circumstances: Any) -> dict[str, Any]:
    """The ladder as plain values, with what is needed to climb it again."""
    return {
        "reference": "PyTorch",
        "bundles": {bundle.name: {"weights": weights_hash(bundle), "trained": bundle.trained} for bundle in bundles},
        **circumstances,
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "rungs": [asdict(report) | {"passed": report.passed} for report in reports],
        "passed": all(report.passed for report in reports),
    }


def _version(package: str) -> str:
    """Empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@dataclass(frozen=True)
class _Difference:
    clip: str
    num_frames: int
    probabilities: float
    attention: float
    same_label: bool


def _difference(clip: ParityClip, expected: Tensors, given: Tensors) -> _Difference:
    def largest(name: str) -> float:
        if name not in given:
            return float("inf")
        error = float(np.abs(expected[name].astype(np.float64) - given[name]).max())
        return error if np.isfinite(error) else float("inf")

    return _Difference(
        clip=clip.name,
        num_frames=len(clip.frames),
        probabilities=max(largest(name) for name in _JUDGED if name in expected),
        attention=largest("attention"),
        same_label=bool(expected["probabilities"].argmax() == given["probabilities"].argmax()),
    )


def _report(rung: Rung, found: Sequence[_Difference]) -> RungReport:
    if not found:
        raise ValueError("parity needs at least one clip")
    worst = max(found, key=lambda difference: difference.probabilities)
    return RungReport(
        name=rung.name,
        num_clips=len(found),
        max_abs=worst.probabilities,
        max_abs_attention=max(difference.attention for difference in found),
        top1_agreement=float(np.mean([difference.same_label for difference in found])),
        worst_clip=worst.clip,
        worst_num_frames=worst.num_frames,
        tolerance=rung.tolerance,
    )
