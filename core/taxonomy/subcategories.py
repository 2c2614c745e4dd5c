"""The 46 subcategories as an answer: logits and class probabilities to a distribution, and to the one that is named.

A distribution over the subcategories agrees with that over the classes: those of a class sum to its probability. Only
subcategories that a model has learnt are named, see ``Bundle.subcategories_learnt``. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from .classes import places_of_classes, subcategory_names

UNLEARNT_LOGIT = -1e4
"""Of a subcategory that was not learnt: its share of the class is 0, unless no other of the class was learnt either."""


def is_learnt(learnt: Collection[str]) -> npt.NDArray[np.bool_]:
    """Which of the 46 are learnt: bool [46]."""
    return np.array([name in learnt for name in subcategory_names()])


def gain_and_offset(
    learnt: Collection[str], temperature: float = 1.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """What calibrates logits and silences what was not learnt: float32 [46] each, ``logits * gain + offset``.

    Logits of what was not learnt do not count, whatever they are: a class without any that was is uniform.
    """
    known = is_learnt(learnt)
    gain = np.where(known, 1 / temperature, 0.0).astype(np.float32)
    return gain, np.where(known, 0.0, UNLEARNT_LOGIT).astype(np.float32)


def distribution(
    logits: npt.ArrayLike, class_probabilities: npt.ArrayLike, learnt: Collection[str], temperature: float = 1.0
) -> npt.NDArray[np.float64]:
    """Logits to probabilities that agree with those of the classes.

    Args:
        logits: float [..., 46].
        class_probabilities: float [..., K], calibrated.
        learnt: names of those that may have a share of their class.
        temperature: divides the logits.

    Returns:
        float64 [..., 46]; those of a class sum to its probability.
    """
    gain, offset = gain_and_offset(learnt, temperature)
    scaled = np.asarray(logits, np.float64) * gain + offset
    classes = np.asarray(class_probabilities, np.float64)
    parts = [
        classes[..., number, None] * _softmax(scaled[..., places])
        for number, places in enumerate(places_of_classes().values())
    ]
    return np.concatenate(parts, axis=-1)


def likeliest(
    probabilities: npt.NDArray[np.floating[Any]], class_name: str, learnt: Collection[str]
) -> tuple[str, float] | None:
    """The subcategory to name beside a class, and its probability; None if none of the class was learnt.

    Args:
        probabilities: float [46].
        class_name: one of ``CLASSES``.
        learnt: names that may be said.
    """
    places, names = places_of_classes()[class_name], subcategory_names()
    candidates = [place for place in range(places.start, places.stop) if names[place] in learnt]
    if not candidates:
        return None
    best = max(candidates, key=lambda place: float(probabilities[place]))
    return names[best], float(probabilities[best])


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares
