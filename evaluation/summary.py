"""Predictions of one member to everything a report says about it, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from reelkind.core.specs import MAX_PASSES, TEMPORAL_VIEWS
from reelkind.core.taxonomy.classes import CLASSES

from .measures.calibration import calibration_summary, nll, reliability
from .measures.metrics import bootstrap_intervals, calibration_error, recalls, score
from .measures.predictions import Predictions, common
from .measures.selective import WANTED_ACCURACY, abstention_summary, risk_coverage
from .measures.significance import NUM_BOOTSTRAPS, compare


def member_summary(
    predictions: Predictions,
    *,
    wanted_accuracy: float = WANTED_ACCURACY,
    abstain_below: float | None = None,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> dict[str, Any]:
    """Metrics of one member on labelled clips, its first view only, as it is served.

    Args:
        predictions: at least one clip.
        wanted_accuracy: of the answers kept when unsure ones are withheld.
        abstain_below: the threshold where it was chosen elsewhere; None chooses it here.
        num_bootstraps: for intervals.
    """
    single = predictions.view(0)
    probabilities, labels = single.probabilities(), single.labels
    right = probabilities.argmax(axis=1) == labels
    classes = [CLASSES[label] for label in labels]
    finer = [f"{name}/{sub}" if sub else "" for name, sub in zip(classes, single.subcategories, strict=True)]
    by_class = recalls(right, classes)
    curve = risk_coverage(probabilities, labels)
    found = {
        "member": single.member,
        **headline(probabilities, labels, single.groups, num_bootstraps),
        **score(probabilities, labels).summary(),
        "ece": round(calibration_error(probabilities, labels), 4),
        "by_class": {name: by_class[name] for name in CLASSES if name in by_class},
        "by_subcategory": dict(sorted(recalls(right, finer).items())),
        "calibration": calibration_summary(single, num_bootstraps),
        "reliability": [[round(value, 4) for value in astuple(each)] for each in reliability(probabilities, labels)],
        "risk_coverage": np.round([curve.coverage, curve.risk], 4).T.tolist(),
        "aurc": round(curve.area, 4),
        "abstain": abstention_summary(probabilities, labels, single.groups, wanted_accuracy, abstain_below),
        "wrong": [
            {"name": name, "true": CLASSES[label], "said": CLASSES[said], "confidence": round(float(sure), 4)}
            for name, label, said, sure in zip(
                single.names, labels, probabilities.argmax(axis=1), probabilities.max(axis=1), strict=True
            )
            if label != said
        ],
    }
    if predictions.num_views > 1:
        found["tta"] = tta_summary([predictions], num_bootstraps)
    return found


def headline(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str], num_bootstraps: int = NUM_BOOTSTRAPS
) -> dict[str, Any]:
    """The row of a table: accuracy and macro-F1 with intervals by work; probabilities [N, K] may be any scores."""
    found = score(probabilities, labels)
    return {
        "num_clips": len(labels),
        "num_works": len(set(groups)),
        "accuracy": round(found.accuracy, 4),
        "macro_f1": round(found.macro_f1, 4),
        "interval_95": bootstrap_intervals(probabilities, labels, groups, num_bootstraps),
    }


def tta_summary(members: Sequence[Predictions], num_bootstraps: int = NUM_BOOTSTRAPS) -> dict[str, Any]:
    """What test-time augmentation brings, fast and full, compared with none; losses too.

    Args:
        members: one, or several whose probabilities are averaged, with logits of all passes [N, P, K] in the server's
            order: every view in all orders of time.
        num_bootstraps: draws for each interval.

    Raises:
        ValueError: if a member has not all passes.
    """
    for each in members:
        if each.num_views != MAX_PASSES:
            raise ValueError(f"{each.member} was predicted with {each.num_views} passes, not {MAX_PASSES}")
    aligned = common(members)
    labels, groups = aligned[0].labels, aligned[0].groups
    passes = {"off": 1, "fast": len(TEMPORAL_VIEWS), "full": MAX_PASSES}
    means = {
        tta: np.mean([each.first_views(count).probabilities() for each in aligned], axis=0)
        for tta, count in passes.items()
    }
    right = {tta: mean.argmax(axis=1) == labels for tta, mean in means.items()}
    rows = {
        tta: {**headline(mean, labels, groups, num_bootstraps), "nll": round(nll(mean, labels), 4)}
        for tta, mean in means.items()
    }
    for tta in ("fast", "full"):
        rows[tta]["against_off"] = compare(right["off"], right[tta], groups, num_bootstraps).summary()
    return rows


def pairwise(predictions: Sequence[Predictions], num_bootstraps: int = NUM_BOOTSTRAPS) -> list[dict[str, Any]]:
    """Every two members on their common clips: exact McNemar, and the difference's interval by work."""
    found = []
    for i, first in enumerate(predictions):
        for second in predictions[i + 1 :]:
            a, b = common([first.view(0), second.view(0)])
            right = [each.probabilities().argmax(axis=1) == a.labels for each in (a, b)]
            comparison = compare(right[0], right[1], a.groups, num_bootstraps)
            found.append({"a": a.member, "b": b.member, **comparison.summary()})
    return found


def baseline_rows(
    scores: Mapping[str, np.ndarray], predictions: Predictions, num_bootstraps: int = NUM_BOOTSTRAPS
) -> list[dict[str, Any]]:
    """Rows of the baselines' table beside the member that gave the features, each compared with it.

    Args:
        scores: name -> float [N, K] on the clips of ``predictions``, in their order.
        predictions: the member.
        num_bootstraps: for intervals.
    """
    labels, groups = predictions.labels, predictions.groups
    right = predictions.view(0).probabilities().argmax(axis=1) == labels
    return [
        {
            "baseline": name,
            **headline(each, labels, groups, num_bootstraps),
            "member_against_it": compare(each.argmax(axis=1) == labels, right, groups, num_bootstraps).summary(),
        }
        for name, each in scores.items()
    ]
