"""Frames of a long video to windows, and its segments to a vote. Pure: no files, no network.

Frames come at a fixed rate and are counted from 0; frame i stands for ``[i / rate, (i + 1) / rate)`` seconds.
A window is some frames in a row, the next one begins a quarter of a window later. ``segments.py`` tells how the
windows' answers become segments.

    frames     0 1 2 3 4 5 6 7 8 9 ...
    windows    |---------------|
                   |---------------|
                       |---------------|
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..specs import MAX_FRAMES
from .clips import segment_middles
from .segments import Scores, stride

RATE = 2.0  # frames a second; docs/timelines.md says what others bring and cost
WINDOW_S = 2.0  # seconds that are classified together; likewise
LEAST_FRAMES = 4  # of a window, where few frames a second are looked at
MIXED_BELOW = 0.8  # a video is mixed if its commonest class fills a smaller share of the time that has a label


def window_frames(rate: float, window_s: float = WINDOW_S) -> int:
    """Frames of a window: what its seconds hold, at least ``LEAST_FRAMES``, at most what a request may carry.

    >>> window_frames(5), window_frames(0.1), window_frames(1000)
    (10, 4, 300)
    """
    return min(MAX_FRAMES, max(LEAST_FRAMES, round(rate * window_s)))


@dataclass(frozen=True, eq=False)
class FilledWindow:
    """A window whose features are complete.

    Attributes:
        start, stop: frames ``[start, stop)``.
        features: name -> float32 [V, T, D].
    """

    start: int
    stop: int
    features: Mapping[str, npt.NDArray[np.float32]]


class Windows:
    """Features as they come to windows as they fill; no more is kept than windows to come may need.

    Args:
        num_frames: of a window.
    """

    def __init__(self, num_frames: int) -> None:
        self._num_frames = num_frames
        self._kept: dict[str, npt.NDArray[np.float32]] = {}
        self._first = 0  # number of the first frame kept
        self._next = 0  # where the next window begins
        self.num_seen = 0

    def add(self, features: Mapping[str, npt.NDArray[np.float32]]) -> Iterator[FilledWindow]:
        """Append features, name -> float32 [V, N, D] of the next N frames, and yield the windows that they fill."""
        for name, array in features.items():
            self._kept[name] = np.concatenate([self._kept[name], array], axis=1) if name in self._kept else array
        self.num_seen = self._first + next(iter(self._kept.values())).shape[1]
        while self._next + self._num_frames <= self.num_seen:
            yield self._cut(self._next)
            self._next += stride(self._num_frames)
        unneeded = max(0, min(self._next, self.num_seen - self._num_frames) - self._first)
        self._kept = {name: array[:, unneeded:].copy() for name, array in self._kept.items()}
        self._first += unneeded

    def finish(self) -> Iterator[FilledWindow]:
        """The window that ends with the video, if none has.

        A video shorter than a window repeats frames, as clips do.
        """
        if 0 < self.num_seen < self._num_frames:
            rows = segment_middles(0, self.num_seen, self._num_frames)
            yield FilledWindow(0, self.num_seen, {name: array[:, rows] for name, array in self._kept.items()})
        elif self._next - stride(self._num_frames) + self._num_frames < self.num_seen:
            yield self._cut(self.num_seen - self._num_frames)

    def _cut(self, start: int) -> FilledWindow:
        rows = slice(start - self._first, start - self._first + self._num_frames)
        return FilledWindow(
            start, start + self._num_frames, {name: array[:, rows] for name, array in self._kept.items()}
        )


@dataclass(frozen=True, eq=False)
class Vote:
    """What a whole video is, by its segments.

    Attributes:
        label: the class that fills most time; None if none has a label.
        shares: float [K], share of the whole time that each class fills; sums to 1 less the time without a label.
        scores: float [K], mean over the whole time.
        mixed: whether the commonest class fills less than ``MIXED_BELOW`` of the time that has a label.
    """

    label: int | None
    shares: Scores
    scores: Scores
    mixed: bool


def vote(spans: Sequence[tuple[int, int | None, Scores]]) -> Vote:
    """Segments, as (duration in any unit, label, scores), to the vote of all."""
    durations = np.array([duration for duration, _, _ in spans], float)
    weights = durations / durations.sum() if durations.sum() else np.full(len(spans), 1 / len(spans))
    scores = weights @ np.stack([scores for _, _, scores in spans])
    shares = np.zeros_like(scores)
    for weight, (_, label, _) in zip(weights, spans, strict=True):
        if label is not None:
            shares[label] += weight
    most, decided = float(shares.max()), float(shares.sum())
    return Vote(int(np.argmax(shares)) if decided else None, shares, scores, most < MIXED_BELOW * decided)
