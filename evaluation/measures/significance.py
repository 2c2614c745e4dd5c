"""Two sets of answers about the same clips to whether they differ by more than chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

NUM_BOOTSTRAPS = 2000
Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Comparison:
    """Answers B against answers A on the same clips.

    Attributes:
        num_clips: N.
        accuracy_a, accuracy_b: shares of right answers.
        difference: B's accuracy less A's.
        interval: 95 % of the difference, whole works drawn. The honest one where a work has several clips.
        only_a_right, only_b_right: the clips that decide.
        p_value: exact two-sided McNemar test (Psychometrika 12, 1947). It takes clips for independent, so that it
            is too small where clips of a work err together.
    """

    num_clips: int
    accuracy_a: float
    accuracy_b: float
    difference: float
    interval: tuple[float, float]
    only_a_right: int
    only_b_right: int
    p_value: float

    def summary(self) -> dict[str, Any]:
        """Rounded for JSON."""
        rounded = {key: round(value, 4) for key, value in asdict(self).items() if isinstance(value, float)}
        return {**asdict(self), **rounded, "interval": [round(end, 4) for end in self.interval]}


def compare(
    right_a: np.ndarray, right_b: np.ndarray, groups: Sequence[str], num_bootstraps: int = NUM_BOOTSTRAPS
) -> Comparison:
    """Compare which clips two models got right.

    Args:
        right_a: bool [N].
        right_b: bool [N], the same clips.
        groups: their works.
        num_bootstraps: draws for the interval.

    Raises:
        ValueError: if there is no clip, or the lengths differ.
    """
    if not len(right_a) == len(right_b) == len(groups) or not len(groups):
        raise ValueError(f"cannot compare {len(right_a)} and {len(right_b)} answers on {len(groups)} clips")
    gain = right_b.astype(float) - right_a.astype(float)
    only_a, only_b = int((gain < 0).sum()), int((gain > 0).sum())
    return Comparison(
        num_clips=len(gain),
        accuracy_a=float(right_a.mean()),
        accuracy_b=float(right_b.mean()),
        difference=float(gain.mean()),
        interval=bootstrap_by_work(lambda drawn: float(gain[drawn].mean()), groups, num_bootstraps),
        only_a_right=only_a,
        only_b_right=only_b,
        p_value=mcnemar_p(only_a, only_b),
    )


def mcnemar_p(only_a_right: int, only_b_right: int) -> float:
    """Exact two-sided p-value: how likely a fair coin splits the disagreements at least as unevenly."""
    disagreements = only_a_right + only_b_right
    tail = sum(math.comb(disagreements, i) for i in range(min(only_a_right, only_b_right) + 1))
    return min(1.0, float(2 * tail / 2**disagreements))


def wilson_interval(num_right: int, count: int) -> tuple[float, float]:
    """95 % score interval of a share (JASA 22, 1927); it takes the ``count`` clips for independent.

    Raises:
        ValueError: if ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"a share of {count} clips has no interval")
    share, spread = num_right / count, Z_95**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap_by_work(
    statistic: Callable[[np.ndarray], float],
    groups: Sequence[str],
    num_bootstraps: int = NUM_BOOTSTRAPS,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % percentile interval of a statistic of clips, whole works drawn with replacement.

    Args:
        statistic: int64 [M], the clips of a draw (repeats included), to a number.
        groups: work of every clip.
        num_bootstraps: draws.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    clips = [np.flatnonzero(member == i) for i in range(len(names))]
    values = [
        statistic(np.concatenate([clips[i] for i in rng.integers(len(names), size=len(names))]))
        for _ in range(num_bootstraps)
    ]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
