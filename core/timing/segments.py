"""Answers for windows of a video to segments, stretches of one label. Pure: no files, no network.

Windows come in order, each a quarter of a window after the one before; so every cell, the quarter of a window, is
covered by four of them, but for the first and the last. A cell's scores are the mean of what the windows that cover it
say of its frames; of a window that tells nothing of frames, what it says of all of them.

    cells      |   |   |   |   |   |   |
    windows    |---------------|
                   |---------------|
                       |---------------|
                           |---------------|

The labels of the cells are the likeliest sequence: that with the most evidence, the sum of the logarithms of the scores
of its labels, less a penalty for every change. Evidence is counted a half-window, whatever the length of cells: what a
quarter says counts half. So a label that is a little likelier than another for a moment makes no segment, while one
that is much likelier, or likelier for long, does. If classes need a threshold, there is a label for none of them: it is
a nat likelier than the likeliest class where that is below the threshold; elsewhere less likely by a nat, or by the
penalty if that is more. Cells in a row with the same label are a segment.

Source: A. J. Viterbi, Error bounds for convolutional codes and an asymptotically optimum decoding algorithm (1967);
a penalty that is the same for all changes is the model of R. B. Potts (1952).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SWITCH_PENALTY = 3.0  # nats; docs/timelines.md says what others do
NONE_NATS = 1.0  # so that a blurred border of a few cells has a class on either side, and no class in between
LEAST_SCORE = 0.01  # no answer for a single window is surer than this that it is not some class

OVERLAP = 4  # windows that cover a moment: borders are told to a quarter of a window

Scores = npt.NDArray[np.floating[Any]]
"""float [K]"""


def stride(num_frames: int) -> int:
    """Frames from window to window, which is also the length of a cell."""
    return max(1, num_frames // OVERLAP)


def half(num_frames: int) -> int:
    """Frames of half a window, which is what evidence is counted by."""
    return max(1, num_frames // 2)


@dataclass(eq=False)
class Span:
    """Frames ``[start, stop)`` of one label.

    Attributes:
        label: number of the class; None where for long enough no class is likely enough.
        scores: float [K], mean over the frames.
    """

    start: int
    stop: int
    label: int | None
    scores: Scores

    def absorb(self, after: Span) -> None:
        """Take in the span that follows, whatever its label."""
        length, other_length = self.stop - self.start, after.stop - after.start
        self.scores = (self.scores * length + after.scores * other_length) / (length + other_length)
        self.stop = after.stop


class LikeliestSequence:
    """The sequence of labels with the most evidence, as far as it is certain while evidence comes in.

    Args:
        num_labels: L.
        switch_penalty: nats that every change of the label costs.
    """

    def __init__(self, num_labels: int, switch_penalty: float) -> None:
        self._labels = np.arange(num_labels)
        self._switch_penalty = switch_penalty
        self._evidence = np.zeros(num_labels)  # of the best sequence that ends with each label
        self._paths = np.empty((num_labels, 0), np.intp)  # [L, N], these sequences, less what has been taken

    def extend(self, evidence: Scores) -> None:
        """Add one label to the sequence, given the evidence for each, float [L] in nats."""
        changed = self._evidence.max() - self._switch_penalty
        came_from = np.where(self._evidence < changed, self._evidence.argmax(), self._labels)
        self._paths = np.column_stack([self._paths[came_from], self._labels])
        self._evidence = np.maximum(self._evidence, changed) + evidence

    def take_certain(self) -> list[int]:
        """The labels at the beginning that no evidence to come can change: those in which all that may win agree."""
        alive = self._paths[self._evidence >= self._evidence.max() - self._switch_penalty]
        agree = (alive == alive[0]).all(axis=0)
        num_certain = agree.size if agree.all() else int(agree.argmin())
        certain: list[int] = alive[0, :num_certain].tolist()
        self._paths = self._paths[:, num_certain:]
        return certain

    def take_all(self) -> list[int]:
        """All labels left, as no evidence is to come."""
        found: list[int] = self._paths[self._evidence.argmax()].tolist()
        self._paths = self._paths[:, :0]
        return found


class Segmenter:
    """Windows' answers, in order, to segments, each given away as soon as nothing can change it any more.

    Args:
        num_frames: frames of a window.
        abstain_below: the score from which on a class is likely enough; 0 names one always.
        switch_penalty: nats that a change of the label costs; 0 gives every cell its likeliest.
    """

    def __init__(self, num_frames: int, abstain_below: float = 0.0, switch_penalty: float = SWITCH_PENALTY) -> None:
        self._stride, self._half = stride(num_frames), half(num_frames)
        self._abstain_below = abstain_below
        self._switch_penalty = switch_penalty
        self._recent: list[tuple[int, int, Scores]] = []  # scores [N, K] of the frames
        self._next_cell = 0
        self._sequence: LikeliestSequence | None = None
        self._cells: deque[Span] = deque()  # without a label so far
        self._open: Span | None = None  # the label of the next cell may be the same

    def add(self, start: int, stop: int, scores: Scores) -> list[Span]:
        """Take the answer for frames ``[start, stop)``; return the segments that are final.

        Args:
            start: the first of N frames.
            stop: behind the last.
            scores: float [K] of all of them, or [N, K] of each.
        """
        self._recent.append((start, stop, np.broadcast_to(scores, (stop - start, scores.shape[-1]))))
        while self._next_cell <= start and self._next_cell + self._stride <= stop:
            self._finish_cell(self._next_cell + self._stride)
        self._recent = [window for window in self._recent if window[1] > self._next_cell]
        return self._label(self._sequence.take_certain()) if self._sequence else []

    def finish(self, num_frames: int) -> list[Span]:
        """The segments left over of a video of ``num_frames`` frames."""
        while self._next_cell < num_frames:
            self._finish_cell(min(self._next_cell + self._stride, num_frames))
        found = self._label(self._sequence.take_all()) if self._sequence else []
        return [*found, self._open] if self._open else found

    def _finish_cell(self, stop: int) -> None:
        start = self._next_cell
        covering = [
            frames[start - first : stop - first].mean(axis=0)
            for first, last, frames in self._recent
            if first <= start and stop <= last
        ]
        scores: Scores = np.mean(covering, axis=0)
        evidence = self._evidence_of(scores)
        if self._sequence is None:
            self._sequence = LikeliestSequence(len(evidence), self._switch_penalty)
        self._sequence.extend(evidence * (stop - start) / self._half)  # the last cell of a video may be shorter
        self._cells.append(Span(start, stop, None, scores))
        self._next_cell = stop

    def _evidence_of(self, scores: Scores) -> Scores:
        """For each class, and for none of them if they need a threshold: float [K] or [K + 1], nats."""
        evidence: Scores = np.log(np.maximum(scores, LEAST_SCORE))
        if not self._abstain_below:
            return evidence
        is_unsure = scores.max() < self._abstain_below
        none = evidence.max() + (NONE_NATS if is_unsure else -max(NONE_NATS, self._switch_penalty))
        return np.append(evidence, none)

    def _label(self, labels: list[int]) -> list[Span]:
        """Give the next cells their labels; return the segments that end thereby."""
        found = []
        for number in labels:
            cell = self._cells.popleft()
            cell.label = number if number < len(cell.scores) else None
            if self._open is not None and self._open.label == cell.label:
                self._open.absorb(cell)
            else:
                found += [] if self._open is None else [self._open]
                self._open = cell
        return found
