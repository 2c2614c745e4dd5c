"""Sound bytes to damaged ones, by a seeded generator: the same number gives the same damage everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

LIES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 62, (1 << 63) - 1)
_LABEL = re.compile(rb"[A-Za-z][A-Za-z0-9_ ]{3}")  # of a box, chunk or object: what follows is its header
_HEAD_BYTES = 4096  # most headers are here, or as far from the end

Mutate = Callable[[np.random.Generator, bytes, bytes], bytes]
"""(generator, a file, another file) -> damaged"""


def truncate(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """The beginning alone."""
    return data[: int(rng.integers(1, len(data) + 1))]


def behead(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """The end alone."""
    return data[int(rng.integers(0, len(data))) :]


def flip_bits(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """Some bits the other way, from one to one in a hundred bytes."""
    found = bytearray(data)
    most = max(1, len(data) // 100)
    for at in rng.integers(0, len(data), int(np.exp(rng.uniform(0, np.log(most + 1))))):
        found[at] ^= 1 << int(rng.integers(8))
    return bytes(found)


def lie(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """Numbers behind a label of the container, or in its first and last kilobytes, replaced by extreme ones."""
    found = bytearray(data)
    labels = [match.end() for match in _LABEL.finditer(data, 0, 1 << 16)]
    for _number in range(int(rng.integers(1, 5))):
        width = int(rng.choice((1, 2, 4, 8)))
        if labels and rng.random() < 0.6:
            at = labels[int(rng.integers(len(labels)))] + int(rng.integers(0, 40))
        elif rng.random() < 0.7:
            at = int(rng.integers(0, min(len(data), _HEAD_BYTES)))
        else:
            at = len(data) - int(rng.integers(1, min(len(data), _HEAD_BYTES) + 1))
        value = int(rng.choice(np.array(LIES, np.uint64))) % (1 << 8 * width)
        at = max(0, min(at, len(data) - width))
        found[at : at + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")
    return bytes(found)


def overwrite(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A stretch of noise, zeros or ones."""
    start, end = _stretch(rng, len(data))
    fill = rng.bytes(end - start) if rng.random() < 0.5 else bytes([int(rng.choice((0, 0xFF)))]) * (end - start)
    return data[:start] + fill + data[end:]


def remove(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A stretch is missing."""
    start, end = _stretch(rng, len(data))
    return data[:start] + data[end:]


def repeat(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """A stretch comes again and again, up to a few megabytes."""
    start, end = _stretch(rng, len(data))
    times = min(int(rng.integers(2, 65)), 1 + (4 << 20) // max(1, end - start))
    return data[:end] + data[start:end] * (times - 1) + data[end:]


def insert(rng: np.random.Generator, data: bytes, _: bytes) -> bytes:
    """Noise in between."""
    at = int(rng.integers(0, len(data)))
    return data[:at] + rng.bytes(int(rng.integers(1, 1025))) + data[at:]


def splice(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The beginning of one file, and the end of another."""
    return data[: int(rng.integers(1, len(data) + 1))] + other[int(rng.integers(0, len(other))) :]


MUTATIONS: tuple[Mutate, ...] = (
    *(truncate, behead, flip_bits, flip_bits, lie, lie, lie),
    *(overwrite, remove, repeat, insert, splice),
)
"""What is drawn from; what finds most comes several times."""


def mutate(seed: int, number: int, data: bytes, other: bytes) -> tuple[bytes, list[str]]:
    """The damaged file of a number, and the names of what was done to it: one to three things.

    Args:
        seed: of the whole run.
        number: of the file.
        data: a sound file, not empty.
        other: another.
    """
    rng = np.random.default_rng([seed, number])
    names = []
    for _ in range(int(rng.choice((1, 2, 3), p=(0.6, 0.25, 0.15)))):
        change = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        data = change(rng, data, other) or data[:1]
        names.append(change.__name__)
    return data, names


def _stretch(rng: np.random.Generator, length: int) -> tuple[int, int]:
    """Start and end of some bytes, short ones more often than long ones."""
    size = int(np.exp(rng.uniform(0, np.log(length + 1))))
    start = int(rng.integers(0, max(1, length - size + 1)))
    return start, min(length, start + max(1, size))
