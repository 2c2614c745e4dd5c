"""Confidence to when a model should rather say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .calibration import work_folds
from .significance import wilson_interval

WANTED_ACCURACY = 0.95
NEVER = 1.01  # a threshold no confidence reaches


@dataclass(frozen=True)
class RiskCoverage:
    """What is left wrong when only the surest clips are answered.

    Attributes:
        coverage: float64 [M], share of clips answered, ascending; clips of equal confidence come together.
        risk: float64 [M], share of the answered that is wrong.
        threshold: float64 [M], smallest confidence answered.
    """

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray

    @property
    def area(self) -> float:
        """AURC: mean risk over all coverages (arXiv:1805.08206); less is better."""
        widths = np.diff(self.coverage, prepend=0.0)
        return float((widths * self.risk).sum())


@dataclass(frozen=True)
class Abstention:
    """A threshold and what it does on some clips.

    Attributes:
        wanted_accuracy: of the answered clips.
        abstain_below: confidences below it get no answer; above 1, no threshold reaches the wanted accuracy.
        coverage: share of clips answered.
        accuracy: of the answered; None if none is.
        accuracy_interval_95: Wilson, clips taken for independent; None if none is answered.
        num_clips: all of them.
    """

    wanted_accuracy: float
    abstain_below: float
    coverage: float
    accuracy: float | None
    accuracy_interval_95: tuple[float, float] | None
    num_clips: int

    def summary(self) -> dict[str, Any]:
        """Rounded for JSON. The threshold is not: it lies just where an answer is."""
        return {
            **asdict(self),
            "coverage": round(self.coverage, 4),
            "accuracy": None if self.accuracy is None else round(self.accuracy, 4),
            "accuracy_interval_95": self.accuracy_interval_95
            and [round(value, 4) for value in self.accuracy_interval_95],
        }


def risk_coverage(probabilities: np.ndarray, labels: np.ndarray) -> RiskCoverage:
    """The curve of probabilities [N, K].

    Raises:
        ValueError: if there is no clip.
    """
    if not len(labels):
        raise ValueError("no clip, no curve")
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    answered = np.arange(1, len(labels) + 1)
    ends = np.append(np.flatnonzero(np.diff(confidence)), len(labels) - 1)  # ties stand or fall together
    return RiskCoverage(
        coverage=answered[ends] / len(labels),
        risk=(np.cumsum(wrong) / answered)[ends],
        threshold=confidence[ends],
    )


def choose_threshold(probabilities: np.ndarray, labels: np.ndarray, wanted_accuracy: float) -> Abstention:
    """The threshold that answers most clips with at least the wanted accuracy; fit it on validation only.

    Raises:
        ValueError: if there is no clip, or the accuracy is not in 0 .. 1.
    """
    if not 0 <= wanted_accuracy <= 1:
        raise ValueError(f"a wanted accuracy lies in 0 .. 1, got {wanted_accuracy}")
    curve = risk_coverage(probabilities, labels)
    reached = np.flatnonzero(1 - curve.risk >= wanted_accuracy)
    threshold = float(curve.threshold[reached[-1]]) if len(reached) else NEVER
    return apply_threshold(probabilities, labels, threshold, wanted_accuracy)


def apply_threshold(
    probabilities: np.ndarray, labels: np.ndarray, abstain_below: float, wanted_accuracy: float
) -> Abstention:
    """What a threshold chosen elsewhere does here."""
    answered = probabilities.max(axis=1) >= abstain_below
    right = (probabilities.argmax(axis=1) == labels)[answered]
    return Abstention(
        wanted_accuracy=wanted_accuracy,
        abstain_below=abstain_below,
        coverage=float(answered.mean()),
        accuracy=float(right.mean()) if len(right) else None,
        accuracy_interval_95=wilson_interval(int(right.sum()), len(right)) if len(right) else None,
        num_clips=len(labels),
    )


def cross_fitted_threshold(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str], wanted_accuracy: float
) -> tuple[float, float | None]:
    """Coverage, and accuracy of the answered, when each clip's threshold is chosen on other works.

    What the chosen threshold promises on the clips it was chosen on is too good; this is what to expect elsewhere.
    """
    answered = np.zeros(len(labels), bool)
    for held_out in work_folds(groups):
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        threshold = choose_threshold(probabilities[rest], labels[rest], wanted_accuracy).abstain_below
        answered[held_out] = probabilities[held_out].max(axis=1) >= threshold
    right = (probabilities.argmax(axis=1) == labels)[answered]
    return float(answered.mean()), float(right.mean()) if len(right) else None


def abstention_summary(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    wanted_accuracy: float = WANTED_ACCURACY,
    abstain_below: float | None = None,
) -> dict[str, Any]:
    """A threshold and what it does, for JSON.

    Args:
        probabilities: [N, K].
        labels: [N].
        groups: the work of each clip.
        wanted_accuracy: of the answers kept when unsure ones are withheld.
        abstain_below: the threshold where it was chosen elsewhere; None chooses it here.
    """
    if abstain_below is not None:
        applied = apply_threshold(probabilities, labels, abstain_below, wanted_accuracy)
        return {"chosen_on": "validation", **applied.summary()}
    coverage, accuracy = cross_fitted_threshold(probabilities, labels, groups, wanted_accuracy)
    return {
        "chosen_on": "these clips",
        **choose_threshold(probabilities, labels, wanted_accuracy).summary(),
        "cross_fitted": {
            "coverage": round(coverage, 4),
            "accuracy": None if accuracy is None else round(accuracy, 4),
        },
    }
