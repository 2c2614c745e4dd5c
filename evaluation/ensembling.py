"""Members' probabilities to one answer: mixing weights, what they bring, and which member carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .measures.calibration import NUM_FOLDS, nll, work_folds
from .measures.metrics import bootstrap_intervals, fit_temperature, score
from .measures.predictions import Predictions, common
from .measures.selective import WANTED_ACCURACY, abstention_summary
from .measures.significance import NUM_BOOTSTRAPS, compare

MAX_ITERATIONS = 2000
CONVERGED = 1e-9


def mix(members: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probabilities [M, N, K] and weights [M] to probabilities [N, K]."""
    mixed: np.ndarray = np.tensordot(weights, members, axes=1)
    return mixed


def fit_weights(members: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Weights on the simplex with the smallest log-loss: those of a mixture model, by expectation maximisation.

    The loss is convex in the weights and every step lowers it, so there is nothing to tune. With equal weights at
    the start, members that answer alike share what they get.

    Args:
        members: float64 [M, N, K], probabilities of every member.
        labels: int64 [N].

    Returns:
        Float64 [M], >= 0, sums to 1.
    """
    likelihood = np.maximum(members[:, np.arange(len(labels)), labels], 1e-12)  # [M, N]
    weights = np.full(len(members), 1 / len(members))
    for _ in range(MAX_ITERATIONS):
        shares = weights[:, None] * likelihood
        updated = (shares / shares.sum(axis=0)).mean(axis=1)
        if np.abs(updated - weights).max() < CONVERGED:
            break
        weights = updated
    return weights


def cross_fitted_mix(
    members: np.ndarray, labels: np.ndarray, groups: Sequence[str], num_folds: int = NUM_FOLDS
) -> np.ndarray:
    """Float64 [N, K]: every clip mixed with weights fitted on other works only."""
    result: np.ndarray = members.mean(axis=0)
    for held_out in work_folds(groups, num_folds):
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        result[held_out] = mix(members[:, held_out], fit_weights(members[:, rest], labels[rest]))
    return result


def ensemble_summary(
    predictions: Sequence[Predictions],
    *,
    fitted_on: Sequence[Predictions] | None = None,
    wanted_accuracy: float = WANTED_ACCURACY,
    abstain_below: float | None = None,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> dict[str, Any]:
    """Everything about an ensemble for JSON: equal and fitted weights, each member left out, against the best member.

    Every member's probabilities are at its own temperature, as served.

    Args:
        predictions: of at least two members; only their common clips count.
        fitted_on: the same members on validation, for the weights; without, ``predictions`` are the validation, and
            the figure with fitted weights is cross-fitted by work.
        wanted_accuracy: of the answers kept when unsure ones are withheld, at equal weights.
        abstain_below: the threshold of that where it was chosen elsewhere; None chooses it here.
        num_bootstraps: for intervals.

    Raises:
        DataError: if the members have no clip in common.
    """
    predictions = common(predictions)
    labels, groups = predictions[0].labels, predictions[0].groups
    names = [each.member for each in predictions]
    members = np.stack([each.probabilities() for each in predictions])
    if fitted_on is None:
        weights, fitted = fit_weights(members, labels), cross_fitted_mix(members, labels, groups)
    else:
        elsewhere = common(fitted_on)
        weights = fit_weights(np.stack([each.probabilities() for each in elsewhere]), elsewhere[0].labels)
        fitted = mix(members, weights)
    right = members.argmax(axis=2) == labels
    best = int(right.mean(axis=1).argmax())  # chosen by looking: the comparison with it is the harder one
    equal = members.mean(axis=0)

    def described(probabilities: np.ndarray) -> dict[str, Any]:
        found = score(probabilities, labels)
        return {
            "accuracy": round(found.accuracy, 4),
            "macro_f1": round(found.macro_f1, 4),
            "interval_95": bootstrap_intervals(probabilities, labels, groups, num_bootstraps),
            "nll": round(nll(probabilities, labels), 4),
        }

    return {
        "num_clips": len(labels),
        "num_works": len(set(groups)),
        "members": {name: described(each) for name, each in zip(names, members, strict=True)},
        "temperatures": {
            each.member: {
                "as_shipped": round(each.temperature, 4),
                "fitted_here": round(fit_temperature(each.logits[:, 0], labels), 4),
            }
            for each in predictions
        },
        "equal_weights": described(equal),
        "abstain": abstention_summary(equal, labels, groups, wanted_accuracy, abstain_below),
        "fitted_weights": {
            "weights": {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)},
            "fitted_on": "these clips, figure cross-fitted by work" if fitted_on is None else "validation",
            **described(fitted),
        },
        "leave_one_out": [
            {
                "without": name,
                **described(np.delete(members, i, axis=0).mean(axis=0)),
                "change": compare(
                    equal.argmax(axis=1) == labels,
                    np.delete(members, i, axis=0).mean(axis=0).argmax(axis=1) == labels,
                    groups,
                    num_bootstraps,
                ).summary(),
            }
            for i, name in enumerate(names)
        ],
        "against_best_member": {
            "best": names[best],
            **compare(right[best], equal.argmax(axis=1) == labels, groups, num_bootstraps).summary(),
        },
    }
