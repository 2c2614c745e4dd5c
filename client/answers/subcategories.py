"""Windows' subcategories to those of a stretch of a video. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reelkind.core.taxonomy.classes import places_of_classes

Distribution = npt.NDArray[np.floating[Any]]
"""float [46]"""


class StretchMeans:
    """The mean distribution of stretches that follow each other, given those of windows that overlap.

    A frame's is the mean of the windows that cover it, a stretch's the mean of its frames'.
    """

    def __init__(self) -> None:
        self._recent: list[tuple[int, int, Distribution]] = []

    def add(self, start: int, stop: int, found: Distribution) -> None:
        """Take what was found in the frames ``[start, stop)`` of a window; windows come in order."""
        self._recent.append((start, stop, found))

    def take(self, start: int, stop: int) -> Distribution | None:
        """The mean over frames ``[start, stop)``; None if no window covers any. What comes before is forgotten."""
        covering = [window for window in self._recent if window[0] < stop and window[1] > start]
        self._recent = [window for window in self._recent if window[1] > stop]
        if not covering:
            return None
        inside = [slice(max(first, start) - start, min(last, stop) - start) for first, last, _ in covering]
        counts = np.zeros(stop - start)
        for frames in inside:
            counts[frames] += 1
        weights = np.array([(1 / counts[frames]).sum() for frames in inside])
        mean: Distribution = weights / weights.sum() @ np.stack([found for _, _, found in covering])
        return mean


def in_step(found: Distribution, scores: npt.NDArray[np.floating[Any]]) -> Distribution:
    """The same shares of each class, so that those of a class sum to its score: scores may come of frames.

    Args:
        found: subcategories, as windows tell them.
        scores: float [K], of the same stretch.
    """
    parts = []
    for number, places in enumerate(places_of_classes().values()):
        whole = found[places].sum()
        parts.append(found[places] * (scores[number] / whole if whole else 0.0))
    return np.concatenate(parts)
