"""Probabilities to how far they may be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .metrics import NUM_CALIBRATION_BINS, calibration_error, fit_temperature, softmax
from .predictions import Predictions
from .significance import NUM_BOOTSTRAPS, bootstrap_by_work

NUM_FOLDS = 5
NUM_CONSISTENT = 2000


@dataclass(frozen=True)
class Bin:
    """Clips of about the same confidence: how confident, how often right, how many."""

    confidence: float
    accuracy: float
    count: int


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of probabilities [N, K], every clip counting the same."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance to the truth, 0 .. 2 (Brier's own definition, over all classes)."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_CALIBRATION_BINS) -> list[Bin]:
    """Equally filled bins by confidence of the winning class, from the least to the most confident."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    parts = np.array_split(np.argsort(confidence, kind="stable"), min(num_bins, len(labels)))
    return [Bin(float(confidence[part].mean()), float(right[part].mean()), len(part)) for part in parts]


def adaptive_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error over equally filled bins (arXiv:1904.01685): no bin hangs on one clip."""
    bins = reliability(probabilities, labels)
    return sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / len(labels)


def error_by_chance(probabilities: np.ndarray, num_draws: int = NUM_CONSISTENT) -> tuple[float, float, float]:
    """Expected calibration error that a calibrated model of these probabilities would show: mean and 95 % of draws.

    Labels are drawn from the probabilities themselves (consistency resampling, doi:10.1175/WAF993.1): few clips are off
    by chance, and a lower error cannot be told from calibration.

    Args:
        probabilities: float [N, K].
        num_draws: of all labels.
    """
    rng, sums = np.random.default_rng(0), probabilities.cumsum(axis=1)
    last = probabilities.shape[1] - 1
    errors = []
    for _ in range(num_draws):
        labels = np.minimum((sums < rng.random((len(sums), 1))).sum(axis=1), last)
        errors.append(calibration_error(probabilities, labels))
    low, high = np.percentile(errors, (2.5, 97.5))
    return float(np.mean(errors)), float(low), float(high)


def cross_fitted(predictions: Predictions, num_folds: int = NUM_FOLDS) -> np.ndarray:
    """Probabilities float64 [N, K], each clip's temperature fitted on other works; views averaged.

    The temperature is fitted on the first view's logits, as training does.
    """
    result = predictions.probabilities()
    for held_out in work_folds(predictions.groups, num_folds):
        rest = np.setdiff1d(np.arange(len(predictions)), held_out)
        temperature = fit_temperature(predictions.logits[rest, 0], predictions.labels[rest])
        result[held_out] = softmax(predictions.logits[held_out], temperature).mean(axis=1)
    return result


def work_folds(groups: Sequence[str], num_folds: int = NUM_FOLDS) -> list[np.ndarray]:
    """Indices of held-out clips of each fold, works whole, folds of about the same size; one work gives no fold."""
    names, counts = np.unique(np.asarray(groups), return_counts=True)
    if len(names) < 2:
        return []
    num_folds = min(num_folds, len(names))
    sizes, fold_of = np.zeros(num_folds, np.int64), {}
    for i in np.argsort(-counts, kind="stable"):
        fold = int(sizes.argmin())
        fold_of[str(names[i])] = fold
        sizes[fold] += counts[i]
    folds = np.array([fold_of[str(group)] for group in groups])
    return [np.flatnonzero(folds == fold) for fold in range(num_folds)]


def calibration_summary(predictions: Predictions, num_bootstraps: int = NUM_BOOTSTRAPS) -> dict[str, Any]:
    """Calibration as shipped, and what a temperature fitted here would change (cross-fitted by work), for JSON."""
    labels, shipped, fitted = predictions.labels, predictions.probabilities(), cross_fitted(predictions)

    def described(probabilities: np.ndarray) -> dict[str, Any]:
        def of_draw(drawn: np.ndarray) -> float:
            return calibration_error(probabilities[drawn], labels[drawn])

        low, high = bootstrap_by_work(of_draw, predictions.groups, num_bootstraps)
        return {
            "ece": round(calibration_error(probabilities, labels), 4),
            "ece_interval_95": [round(low, 4), round(high, 4)],
            "ece_by_chance": [round(value, 4) for value in error_by_chance(probabilities, num_bootstraps)],
            "ece_adaptive": round(adaptive_calibration_error(probabilities, labels), 4),
            "nll": round(nll(probabilities, labels), 4),
            "brier": round(brier(probabilities, labels), 4),
        }

    return {
        "temperature": round(predictions.temperature, 4),
        "as_shipped": described(shipped),
        "temperature_fitted_here": round(fit_temperature(predictions.logits[:, 0], labels), 4),
        "cross_fitted": described(fitted),
    }
