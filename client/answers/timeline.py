"""Answers for windows of a long video to what a timeline tells: windows, segments, the vote of the whole. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from reelkind.core.errors import VideoError
from reelkind.core.taxonomy.subcategories import likeliest
from reelkind.core.timing.segments import Segmenter, Span, half
from reelkind.core.timing.timeline import FilledWindow, vote

from .prediction import ModelInfo, Prediction, rounded
from .subcategories import StretchMeans, in_step


@dataclass(frozen=True, eq=False)
class Window:
    """The answer for a few seconds of a video; the next window told begins half of them later.

    Segments come of twice as many, which begin a quarter later each.

    Attributes:
        start_ms, end_ms: from the start of the video.
        label: the likeliest class; None if it is less likely than the threshold asked for.
        confidence: probability of the likeliest class.
        scores: class -> probability, sums to 1.
        embedding: float32 [E], for search and clustering.
    """

    start_ms: int
    end_ms: int
    label: str | None
    confidence: float
    scores: Mapping[str, float]
    embedding: npt.NDArray[np.float32] = field(repr=False)

    def to_dict(self, *, embedding: bool = False) -> dict[str, Any]:
        """For JSON."""
        raw = {**_stretch(self), "scores": _rounded(self.scores)}
        return {**raw, "embedding": self.embedding.tolist()} if embedding else raw


@dataclass(frozen=True)
class Segment:
    """A stretch of one class; segments follow each other without gaps.

    Attributes:
        start_ms, end_ms: from the start of the video; true to about half a window.
        label: the class; None if none is likely enough for the threshold asked for.
        confidence: mean probability of the label; without one, of the likeliest class.
        scores: class -> mean probability.
        subcategory: the likeliest of the label that the model has learnt, by the mean over the segment; None if there
            is no label, none of its class was learnt, or the server tells none.
        subcategory_confidence: its mean probability.
    """

    start_ms: int
    end_ms: int
    label: str | None
    confidence: float
    scores: Mapping[str, float]
    subcategory: str | None = None
    subcategory_confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **_stretch(self),
            "scores": _rounded(self.scores),
            "subcategory": self.subcategory,
            "subcategory_confidence": rounded(self.subcategory_confidence),
        }


@dataclass(frozen=True)
class Timeline:
    """What a video shows when.

    Attributes:
        path: the file.
        duration_ms: where its pictures end, or where they could not be read any further.
        label: the class that fills most of the time; None if none has a label.
        confidence: its mean probability; without one, of the likeliest class.
        scores: class -> mean probability over the whole time.
        shares: class -> share of the time that its segments fill; sums to 1 less the time without a label.
        mixed: whether no class fills ``core.timing.timeline.MIXED_BELOW`` of the time that has a label.
        segments: without gaps, from 0 to ``duration_ms``.
        windows: in order, each overlapping the next by half.
        rate: frames that were looked at, a second.
        timings_ms: ``total``.
        model: which model answered.
        error: why the end is missing; None if it is not.
    """

    path: str
    duration_ms: int
    label: str | None
    confidence: float
    scores: Mapping[str, float]
    shares: Mapping[str, float]
    mixed: bool
    segments: tuple[Segment, ...]
    windows: tuple[Window, ...] = field(repr=False)
    rate: float
    timings_ms: Mapping[str, float]
    model: ModelInfo
    error: VideoError | None = None

    def to_dict(self, *, windows: bool = False, embedding: bool = False) -> dict[str, Any]:
        """For JSON; windows and their embeddings are long and left out unless asked for."""
        raw: dict[str, Any] = {
            "path": self.path,
            "duration_ms": self.duration_ms,
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "scores": _rounded(self.scores),
            "shares": _rounded(self.shares),
            "mixed": self.mixed,
            "segments": [segment.to_dict() for segment in self.segments],
            "rate": self.rate,
            "timings_ms": {name: round(duration, 1) for name, duration in self.timings_ms.items()},
            "model": self.model.to_dict(),
            "error": None if self.error is None else self.error.reason,
        }
        if windows:
            raw["windows"] = [window.to_dict(embedding=embedding) for window in self.windows]
        return raw


Event = Window | Segment | Timeline
"""What is told while a video is read: windows and segments as they are final, the timeline last."""


class Assembly:
    """Windows' answers, in order, to events.

    Args:
        path: the file.
        rate: frames a second.
        num_frames: T, frames of a window.
        classes: names of the scores, in order.
        abstain_below: confidence under which no label is given; 0 gives one always.
        switch_penalty: see ``core.timing.segments``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate: Fraction,
        num_frames: int,
        classes: tuple[str, ...],
        abstain_below: float,
        switch_penalty: float,
    ) -> None:
        self._path = os.fspath(path)
        self._rate = rate
        self._classes = classes
        self._segmenter = Segmenter(num_frames, abstain_below, switch_penalty)
        self._half = half(num_frames)
        self._untold: Window | None = None
        self._end: tuple[int, int] | None = None  # (frames, milliseconds)
        self._windows: list[Window] = []
        self._segments: list[Segment] = []
        self._spans: list[Span] = []
        self._model: ModelInfo | None = None
        self._finer = StretchMeans()

    def ends_at(self, num_frames: int, end_ms: int) -> None:
        """Say where the video ends as soon as that is known: the last frame may stand for less time than others."""
        self._end = num_frames, end_ms

    def add(self, filled: FilledWindow, answer: Prediction) -> Iterator[Window | Segment]:
        """The window, if it begins half a one after the last that was told, and the segments that are final with it."""
        self._model = answer.model
        window = Window(
            self._to_ms(filled.start),
            self._to_ms(filled.stop),
            answer.label,
            answer.confidence,
            answer.scores,
            answer.embedding,
        )
        if filled.start % self._half:
            self._untold = window
        else:
            self._untold = None
            yield self._tell(window)
        scores = np.fromiter(answer.scores.values(), np.float32)
        if answer.frame_scores is not None and len(answer.frame_scores) == filled.stop - filled.start:
            scores = answer.frame_scores  # but for a video that is shorter than a window, whose frames are repeated
        if answer.subcategories is not None:
            self._finer.add(filled.start, filled.stop, np.fromiter(answer.subcategories.values(), np.float32))
        yield from self._segments_of(self._segmenter.add(filled.start, filled.stop, scores))

    def finish(self, total_ms: float, error: VideoError | None) -> Iterator[Event]:
        """What was still open, and the timeline; ``ends_at`` and ``add`` have been called before."""
        assert self._end is not None and self._model is not None  # noqa: PT018
        if self._untold is not None:  # the one that ends with the video
            yield self._tell(self._untold)
        yield from self._segments_of(self._segmenter.finish(self._end[0]))
        found = vote(
            [(self._to_ms(span.stop) - self._to_ms(span.start), span.label, span.scores) for span in self._spans]
        )
        yield Timeline(
            path=self._path,
            duration_ms=self._end[1],
            label=self._name(found.label),
            confidence=float(found.scores.max() if found.label is None else found.scores[found.label]),
            scores=self._by_class(found.scores),
            shares=self._by_class(found.shares),
            mixed=found.mixed,
            segments=tuple(self._segments),
            windows=tuple(self._windows),
            rate=float(self._rate),
            timings_ms={"total": total_ms},
            model=self._model,
            error=error,
        )

    def _tell(self, window: Window) -> Window:
        self._windows.append(window)
        return window

    def _segments_of(self, spans: list[Span]) -> list[Segment]:
        found = [self._segment(span) for span in spans]
        self._spans += spans
        self._segments += found
        return found

    def _segment(self, span: Span) -> Segment:
        label, finer = self._name(span.label), self._finer.take(span.start, span.stop)
        learnt = () if self._model is None else self._model.subcategories_learnt or ()
        finer = None if finer is None else in_step(finer, span.scores)
        named = None if label is None or finer is None else likeliest(finer, label, learnt)
        return Segment(
            self._to_ms(span.start),
            self._to_ms(span.stop),
            label,
            float(span.scores.max() if span.label is None else span.scores[span.label]),
            self._by_class(span.scores),
            subcategory=None if named is None else named[0],
            subcategory_confidence=None if named is None else named[1],
        )

    def _to_ms(self, frame: int) -> int:
        if self._end is not None and frame >= self._end[0]:
            return self._end[1]
        return round(frame * 1000 / self._rate)

    def _name(self, label: int | None) -> str | None:
        return None if label is None else self._classes[label]

    def _by_class(self, values: npt.NDArray[np.floating[Any]]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self._classes, values, strict=True)}


def _stretch(part: Window | Segment) -> dict[str, Any]:
    return {
        "start_ms": part.start_ms,
        "end_ms": part.end_ms,
        "label": part.label,
        "confidence": round(part.confidence, 6),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}
