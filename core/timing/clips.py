"""A stretch of time to the instants whose frames make a clip. Pure integers: no floats, no drift.

Times are ticks of whatever clock the caller uses (a stream's time base, milliseconds, frame numbers).
A half-open stretch ``[start, start + duration)`` of d ticks is divided into T equal segments.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, inf
from typing import overload

NUM_FRAMES = 16  # frames of a clip unless a bundle says otherwise
FRAME_SIZE_PX = 224  # side of the square that most backbones were pretrained on (ImageNet)

EXACT, AUTO, KEYFRAMES = "exact", "auto", "keyframes"
SEEKS = {EXACT: inf, AUTO: 2e9, KEYFRAMES: 0.0}
"""How frames are found: pixels of a clip that are decoded before key frames stand in for what is on screen. Of ``auto``
that is 240 frames of 4K or 960 of 1080p, some seconds on one core; a count, not a time, so that a file always gives the
same frames."""


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


class Instants(Sequence[int]):
    """The middles of equal intervals of a stretch, however many there are; none is stored.

    Interval i is ``[start + i * step, start + (i + 1) * step)``; a last one counts if its middle lies in the stretch.
    T intervals in a row have the instants that ``segment_middles`` gives for the time they fill.
    A stretch too short for any instant has one, its last tick.

    >>> list(Instants(0, 100, Fraction(25)))
    [12, 37, 62, 87]

    Args:
        start: first tick.
        duration: ticks.
        step: ticks from instant to instant, a fraction where the clock is coarse.

    Raises:
        ValueError: if ``duration`` is below 1 or ``step`` not above 0.
    """

    def __init__(self, start: int, duration: int, step: Fraction) -> None:
        _require_positive(duration=duration)
        if step <= 0:
            raise ValueError(f"step must be above 0, got {step}")
        self._start = start
        self._last = duration - 1
        self._step = step
        self._len = min(max(1, ceil(duration / step - Fraction(1, 2))), sys.maxsize)  # a header may say anything

    def __len__(self) -> int:
        return self._len

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._len))]
        if not 0 <= index < self._len:
            raise IndexError(index)
        return self._start + min(floor((2 * index + 1) * self._step / 2), self._last)


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
