"""A stretch of time to the instants whose frames make a clip. Pure integers: no floats, no drift.

Times are ticks of whatever clock the caller uses (a stream's time base, milliseconds, frame numbers).
A half-open stretch ``[start, start + duration)`` of d ticks is divided into T equal segments.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

NUM_FRAMES = 16  # frames of a clip unless a bundle says otherwise
FRAME_SIZE_PX = 224  # side of the square that most backbones were pretrained on (ImageNet)


def segment_middles(start: int, duration: int, num_frames: int) -> list[int]:
    """Middle of each of ``num_frames`` equal segments (TSN test rule, arXiv:1608.00859).

    A stretch shorter than ``num_frames`` ticks repeats instants, so a clip always has T frames.

    >>> segment_middles(0, 100, 4)
    [12, 37, 62, 87]

    Raises:
        ValueError: if ``duration`` or ``num_frames`` is below 1.
    """
    _require_positive(duration=duration, num_frames=num_frames)
    return [start + (2 * i + 1) * duration // (2 * num_frames) for i in range(num_frames)]


def segment_jitter(start: int, duration: int, num_frames: int, rng: random.Random) -> list[int]:
    """One uniformly random instant of each segment (TSN training rule, arXiv:1608.00859).

    Ascending; every instant lies in its own segment, so no part of the video is ever left out.

    Raises:
        ValueError: if ``duration`` or ``num_frames`` is below 1.
    """
    _require_positive(duration=duration, num_frames=num_frames)
    edges = [i * duration // num_frames for i in range(num_frames + 1)]
    return [start + low + rng.randrange(max(1, high - low)) for low, high in pairwise(edges)]


@dataclass(frozen=True)
class Window:
    """The stretch ``[start, start + duration)`` of a long video, in ticks."""

    start: int
    duration: int


def windows(start: int, duration: int, window: int, stride: int) -> Iterator[Window]:
    """Windows that cover a long video from its start to its end.

    Every window is ``window`` ticks long; the last is moved back to end with the video, so nothing
    is left out and nothing is padded. A video shorter than one window gives one shorter window.

    >>> [(w.start, w.duration) for w in windows(0, 25, 10, 10)]
    [(0, 10), (10, 10), (15, 10)]

    Raises:
        ValueError: if ``duration``, ``window`` or ``stride`` is below 1, or ``stride`` exceeds ``window``.
    """
    _require_positive(duration=duration, window=window, stride=stride)
    if stride > window:
        raise ValueError(f"stride {stride} exceeds window {window}: parts of the video would never be seen")
    if duration <= window:
        yield Window(start, duration)
        return
    last = duration - window
    for offset in range(0, last, stride):
        yield Window(start + offset, window)
    yield Window(start + last, window)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
