"""Samples and what a head says of their subcategories to what was learnt, how well, and how it is calibrated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import CLASSES, NUM_CLASSES, subcategories, subcategory_names
from reelkind.core.taxonomy.subcategories import distribution, likeliest
from reelkind.datasets.grouping import origin_groups, work_groups
from reelkind.datasets.sample import Sample, subcategory_labels

from .metrics import TEMPERATURES
from .significance import bootstrap_by_work

MIN_WORKS = 3
"""A subcategory with fewer works of training material is not learnt but remembered: it is never named."""


@dataclass(frozen=True)
class SubcategoryAnswers:
    """What a model said of clips that it had not seen.

    Attributes:
        samples: N clips.
        logits: float [N, 46], of the second output.
        class_probabilities: float [N, K], calibrated.
    """

    samples: Sequence[Sample]
    logits: np.ndarray
    class_probabilities: np.ndarray


def require_subcategories(samples: Sequence[Sample], weight: float) -> None:
    """Make sure that a second output has something to learn from.

    Raises:
        DataError: if there is a weight, and no sample has a subcategory of the taxonomy.
    """
    if weight and not (subcategory_labels(samples) >= 0).any():
        given = sorted({sample.subcategory for sample in samples} - {""})
        said = f"it has {', '.join(given[:3])}, ..." if given else "it is empty, or not there"
        raise DataError(
            f"head.subcategory_weight = {weight:g} trains the subcategories, but none of the {len(samples)} training "
            f"samples has one of the {len(subcategories())} in the column 'subcategory' of its manifest ({said}): "
            "fill it in as docs/datasets.md says, or set head.subcategory_weight = 0"
        )


def learnt_subcategories(samples: Sequence[Sample], min_works: int = MIN_WORKS) -> tuple[str, ...]:
    """Subcategories with material of at least ``min_works`` different works, in the order of the taxonomy."""
    works: dict[int, set[str]] = defaultdict(set)
    for place, group in zip(subcategory_labels(samples).tolist(), work_groups(samples), strict=True):
        works[place].add(group)
    return tuple(name for place, name in enumerate(subcategory_names()) if len(works[place]) >= min_works)


def fit_subcategory_temperature(answers: SubcategoryAnswers, learnt: Collection[str]) -> float:
    """The temperature with the smallest negative log-likelihood of the true subcategory among those of its class.

    Only clips of what was learnt count; without any, 1.
    """
    labels, known = _labels(answers.samples, learnt)
    if not known.size:
        return 1.0
    truth = np.eye(NUM_CLASSES)[[answers.samples[i].label for i in known]]

    def loss(temperature: float) -> float:
        found = distribution(answers.logits[known], truth, learnt, temperature)
        return float(-np.log(np.maximum(found[np.arange(len(known)), labels[known]], 1e-12)).mean())

    return round(float(min(TEMPERATURES, key=loss)), 3)


def measure_subcategories(
    answers: SubcategoryAnswers, learnt: Collection[str], temperature: float, num_bootstraps: int
) -> dict[str, Any]:
    """How often the subcategory named is right, for JSON: of clips whose own was learnt, all and by class.

    Named is what is served: the likeliest learnt one of the likeliest class. Intervals are bootstraps over works.
    """
    labels, known = _labels(answers.samples, learnt)
    if not known.size:
        return {}
    probabilities = distribution(answers.logits, answers.class_probabilities, learnt, temperature)
    names = subcategory_names()
    said = [_named(probabilities[i], answers.class_probabilities[i], learnt) for i in known]
    right = np.array([name == names[labels[i]] for name, i in zip(said, known, strict=True)])
    groups = np.array(origin_groups(answers.samples))[known]
    classes = np.array([answers.samples[i].label for i in known])
    by_class = {
        name: _top1(right[classes == label], groups[classes == label], num_bootstraps)
        for label, name in enumerate(CLASSES)
        if (classes == label).any()
    }
    return {**_top1(right, groups, num_bootstraps), "by_class": by_class}


def measure_all(
    train: Sequence[Sample],
    held_out: SubcategoryAnswers | None,
    val: SubcategoryAnswers | None,
    num_bootstraps: int,
) -> dict[str, Any]:
    """What a bundle keeps of its subcategories; empty without that output.

    Args:
        train: what decides which of them were learnt.
        held_out: answers of cross-validation, which the temperature is fitted on; None where it was skipped.
        val: answers to the validation clips; None of heads without that output.
        num_bootstraps: draws for intervals.
    """
    if val is None:
        return {}
    learnt = learnt_subcategories(train)
    temperature = 1.0 if held_out is None else fit_subcategory_temperature(held_out, learnt)
    measured = {} if held_out is None else measure_subcategories(held_out, learnt, temperature, num_bootstraps)
    return {
        "learnt": list(learnt),
        "min_works": MIN_WORKS,
        "temperature": temperature,
        "cross_validation": measured,
        "val": measure_subcategories(val, learnt, temperature, num_bootstraps),
    }


def _named(probabilities: np.ndarray, classes: np.ndarray, learnt: Collection[str]) -> str | None:
    found = likeliest(probabilities, CLASSES[int(classes.argmax())], learnt)
    return None if found is None else found[0]


def _labels(samples: Sequence[Sample], learnt: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
    """Places in the taxonomy int64 [N], and the indices of the samples whose subcategory was learnt."""
    labels, names = subcategory_labels(samples), subcategory_names()
    return labels, np.array([i for i, place in enumerate(labels) if place >= 0 and names[place] in learnt], np.int64)


def _top1(right: np.ndarray, groups: np.ndarray, num_bootstraps: int) -> dict[str, Any]:
    low, high = bootstrap_by_work(lambda drawn: float(right[drawn].mean()), groups.tolist(), num_bootstraps)
    return {
        "num_clips": len(right),
        "num_works": len(np.unique(groups)),
        "num_right": int(right.sum()),
        "top1": round(float(right.mean()), 4),
        "interval_95": [round(low, 4), round(high, 4)],
    }
