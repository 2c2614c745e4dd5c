"""Frames of a long video to windows, and the windows' answers to segments. Pure: no files, no network.

Frames come at a fixed rate and are counted from 0; frame i stands for ``[i / rate, (i + 1) / rate)`` seconds.
A window is T frames in a row, the next one begins half a window later; so every cell, the half of a window, is seen
by two of them, but for the first and the last.

    frames     0 1 2 3 4 5 6 7 8 9 ...
    windows    |-------|
                   |-------|
                       |-------|
    cells      |   |   |   |   |

A cell's scores are the mean of the windows that cover it, its label their likeliest class, or none if that is less
likely than the threshold. Cells in a row with the same label are a segment. A label that holds for a single cell
between others is a flicker: its cell goes to the neighbours if they agree, else to the one it gives the higher score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .clips import segment_middles

WINDOW_S = 8.0  # seconds of the clips that the shipped members were trained on (median; 2 .. 10 s)
MIXED_BELOW = 0.8  # a video is mixed if its commonest class fills a smaller share of the time that has a label
MIN_CELLS = 2  # cells in a row, together a window, that a label must win to be more than a flicker

Scores = npt.NDArray[np.floating[Any]]
"""float [K]"""


def default_rate(num_frames: int) -> float:
    """Frames a second at which ``num_frames`` fill a window of ``WINDOW_S``."""
    return num_frames / WINDOW_S


def stride(num_frames: int) -> int:
    """Frames from window to window, which is also the length of a cell."""
    return max(1, num_frames // 2)


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
        num_frames: T, frames of a window.
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


@dataclass(eq=False)
class Span:
    """Frames ``[start, stop)`` of one label.

    Attributes:
        label: number of the class; None where no class is likely enough.
        scores: float [K], mean over the frames.
        num_cells: how many cells have this very label; the others were flickers.
    """

    start: int
    stop: int
    label: int | None
    scores: Scores
    num_cells: int = 1

    def absorb(self, other: Span, *, same_label: bool = False) -> None:
        """Take in the span before or after this one."""
        length, other_length = self.stop - self.start, other.stop - other.start
        self.scores = (self.scores * length + other.scores * other_length) / (length + other_length)
        self.start, self.stop = min(self.start, other.start), max(self.stop, other.stop)
        self.num_cells += other.num_cells if same_label else 0

    def score_of(self, label: int | None) -> float:
        """The mean score of a label; no class has none."""
        return 0.0 if label is None else float(self.scores[label])


class Segmenter:
    """Windows' answers, in order, to segments, each given away as soon as nothing can change it any more.

    Args:
        num_frames: T, frames of a window.
        abstain_below: scores under which no class is named; 0 names one always.
    """

    def __init__(self, num_frames: int, abstain_below: float = 0.0) -> None:
        self._stride = stride(num_frames)
        self._abstain_below = abstain_below
        self._recent: list[tuple[int, int, Scores]] = []
        self._next_cell = 0
        self._open: list[Span] = []

    def add(self, start: int, stop: int, scores: Scores) -> list[Span]:
        """Take the answer for frames ``[start, stop)``; return the segments that are final."""
        self._recent.append((start, stop, scores))
        while self._next_cell <= start and self._next_cell + self._stride <= stop:
            self._finish_cell(self._next_cell + self._stride)
        self._recent = [window for window in self._recent if window[1] > self._next_cell]
        return self._final()

    def finish(self, num_frames: int) -> list[Span]:
        """The segments left over of a video of ``num_frames`` frames."""
        while self._next_cell < num_frames:
            self._finish_cell(min(self._next_cell + self._stride, num_frames))
        if len(self._open) > 1 and self._open[-1].num_cells < MIN_CELLS:
            self._open[-2].absorb(self._open.pop())
        found, self._open = self._open, []
        return found

    def _finish_cell(self, stop: int) -> None:
        start = self._next_cell
        covering = [scores for first, last, scores in self._recent if first <= start and stop <= last]
        scores = np.mean(covering, axis=0)
        self._place(Span(start, stop, best(scores, self._abstain_below), scores))
        self._next_cell = stop

    def _place(self, cell: Span) -> None:
        last = self._open[-1] if self._open else None
        if last is not None and last.label == cell.label:
            last.absorb(cell, same_label=True)
            return
        if last is not None and last.num_cells < MIN_CELLS:
            self._open.pop()
            self._dissolve(last, cell)
        if not self._open or self._open[-1].label != cell.label:
            self._open.append(cell)
        else:
            self._open[-1].absorb(cell, same_label=True)

    def _dissolve(self, flicker: Span, after: Span) -> None:
        before = self._open[-1] if self._open else None
        if before is not None and flicker.score_of(before.label) >= flicker.score_of(after.label):
            before.absorb(flicker)
        else:
            after.absorb(flicker)

    def _final(self) -> list[Span]:
        if not self._open or self._open[-1].num_cells < MIN_CELLS:
            return []
        found, self._open = self._open[:-1], self._open[-1:]
        return found


def best(scores: Scores, abstain_below: float = 0.0) -> int | None:
    """Number of the likeliest class; None if it is less likely than the threshold."""
    label = int(np.argmax(scores))
    return label if scores[label] >= abstain_below else None


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
