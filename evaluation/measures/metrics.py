"""Probabilities and labels to numbers one can trust: metrics, intervals by work, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelkind.core.taxonomy.classes import CLASSES, NUM_CLASSES

from .significance import wilson_interval

NUM_CALIBRATION_BINS = 10
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 121))


@dataclass(frozen=True)
class Scores:
    """How good a set of predictions is.

    Attributes:
        accuracy: share of clips whose label is right.
        macro_f1: mean F1 of the classes.
        balanced_accuracy: mean recall of the classes.
        recall, precision: of each class, in the order of ``CLASSES``.
        confusion: int64 [K, K], rows are true classes.
    """

    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    confusion: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Rounded for JSON."""
        return {
            "accuracy": round(self.accuracy, 4),
            "macro_f1": round(self.macro_f1, 4),
            "balanced_accuracy": round(self.balanced_accuracy, 4),
            "recall": {name: round(value, 4) for name, value in zip(CLASSES, self.recall, strict=True)},
            "confusion": self.confusion.tolist(),
        }


def score(probabilities: np.ndarray, labels: np.ndarray) -> Scores:
    """Metrics of predictions.

    Args:
        probabilities: float [N, K] (logits do as well: only the order counts).
        labels: int [N].

    Raises:
        ValueError: if there is nothing to score, or the lengths differ.
    """
    if len(labels) == 0 or len(labels) != len(probabilities):
        raise ValueError(f"{len(probabilities)} predictions for {len(labels)} labels")
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    right, true, said = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision = right / np.maximum(true, 1), right / np.maximum(said, 1)
    present = true > 0  # a bootstrap sample may lack a class
    f1 = 2 * right / np.maximum(true + said, 1)
    return Scores(
        accuracy=float(right.sum() / true.sum()),
        macro_f1=float(f1[present].mean()),
        balanced_accuracy=float(recall[present].mean()),
        recall=tuple(recall.tolist()),
        precision=tuple(precision.tolist()),
        confusion=confusion,
    )


def recalls(right: np.ndarray, kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Recall of every kind with its count and 95 % Wilson interval, for JSON; clips of no kind ("") are left out.

    Args:
        right: bool [N].
        kinds: class or subcategory of every clip.
    """
    found = {}
    for kind in dict.fromkeys(filter(None, kinds)):
        inside = right[[each == kind for each in kinds]]
        low, high = wilson_interval(int(inside.sum()), len(inside))
        found[kind] = {
            "recall": round(float(inside.mean()), 4),
            "right": int(inside.sum()),
            "count": len(inside),
            "interval_95": [round(low, 4), round(high, 4)],
        }
    return found


def bootstrap_intervals(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str], num_bootstraps: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of accuracy and macro-F1; whole works are drawn, for clips of a work err together.

    Returns:
        Name of the metric -> (2.5 %, 97.5 %).
    """
    rng = np.random.default_rng(seed)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    clips = [np.flatnonzero(member == i) for i in range(len(names))]
    values = []
    for _ in range(num_bootstraps):
        drawn = np.concatenate([clips[i] for i in rng.integers(len(names), size=len(names))])
        scores = score(probabilities[drawn], labels[drawn])
        values.append((scores.accuracy, scores.macro_f1))
    low, high = np.percentile(np.array(values), (2.5, 97.5), axis=0)
    return {
        "accuracy": (round(float(low[0]), 4), round(float(high[0]), 4)),
        "macro_f1": (round(float(low[1]), 4), round(float(high[1]), 4)),
    }


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities float64 [N, K] of logits [N, K] divided by ``temperature``."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = scaled / scaled.sum(axis=-1, keepdims=True)
    return probabilities


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the smallest class-balanced negative log-likelihood (arXiv:1706.04599)."""
    return float(min(TEMPERATURES, key=lambda value: balanced_nll(softmax(logits, value), labels)))


def balanced_nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Negative log-likelihood, every class counting the same."""
    losses = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12))
    return float(np.mean([losses[labels == label].mean() for label in np.unique(labels)]))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error of the winning class, 10 equal bins of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * NUM_CALIBRATION_BINS).astype(int), NUM_CALIBRATION_BINS - 1)
    error = 0.0
    for i in np.unique(bins):
        inside = bins == i
        error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)
