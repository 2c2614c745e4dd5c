"""Frames to fingerprints, and fingerprints to pairs of files that show the same pictures.

A fingerprint is a small grey picture of each frame, without bars at its edges. Pictures are compared by the lowest
coefficients of their discrete cosine transform (a perceptual hash, kept in full precision instead of rounded to bits),
each also against a set of cut-outs of the other: re-encoding, another size or frame rate, bars and small crops leave
enough of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE_PX = 32
NUM_COEFFICIENTS = 8  # each way: up to 7 half waves across a picture survive compression and small shifts
MAX_BAR = 0.35  # share of a side that may be cut off as a bar
MAX_BAR_CONTRAST = 24  # grey levels from the darkest to the brightest pixel of a row that belongs to a bar
MIN_DEVIATION = 8.0  # grey levels; a picture flatter than this (black, white) is like any other
MIN_LIKENESS = 0.90  # cosine; docs/datasets.md has what was measured
MIN_PLAIN_LIKENESS = 0.97  # terminals, pages, slides: much the same from afar, whatever is written on them
PLAIN_SHARE = 0.4  # of a picture in one tone: more makes it plain
TONE_LEVELS = 16  # grey levels that count as one tone
MIN_SHARE = 0.5  # of the shorter file's frames that must be found in the other
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
ROWS_PER_BLOCK = 512  # frames compared with all others at once: bounds the memory

_CENTRE = [(margin, margin, margin, margin) for margin in (0.0, 0.03, 0.06, 0.10)]
_SIDES = [(0.125, 0, 0.125, 0), (0, 0.125, 0, 0.125)]
_CORNERS = [(x, y, cut - x, cut - y) for cut in (0.05, 0.1) for x in (0, cut) for y in (0, cut)]
CUT_OUTS = (*_CENTRE, *_SIDES, *_CORNERS)
"""What is cut off left, top, right and below, as shares of the sides; the first is the whole picture."""


@dataclass(frozen=True)
class Pair:
    """Two files that show the same pictures.

    Attributes:
        first, second: their numbers, ascending.
        likeness: mean cosine of the frames that were found again, ``MIN_LIKENESS`` .. 1.
    """

    first: int
    second: int
    likeness: float


def fingerprint(frames: np.ndarray) -> np.ndarray:
    """Small grey pictures without bars.

    Args:
        frames: uint8 RGB [T, S, S, 3].

    Returns:
        uint8 [T, SIDE_PX, SIDE_PX].
    """
    grey = np.rint(frames @ LUMA).astype(np.uint8)  # [T, S, S]
    top, bottom = _without_bars(grey)
    left, right = _without_bars(grey.swapaxes(1, 2))
    size = (SIDE_PX, SIDE_PX)
    inner = (left, top, right, bottom)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX, inner)) for image in grey])


def _without_bars(grey: np.ndarray) -> tuple[int, int]:
    """First and last+1 row that is no bar in some frame; all rows if nothing else would be left."""
    contrast = (grey.max(axis=2).astype(np.int16) - grey.min(axis=2)).max(axis=0)  # [S]
    rows = np.flatnonzero(contrast > MAX_BAR_CONTRAST)
    height = grey.shape[1]
    if not len(rows) or rows[0] > MAX_BAR * height or rows[-1] + 1 < (1 - MAX_BAR) * height:
        return 0, height
    return int(rows[0]), int(rows[-1]) + 1


def near_duplicates(fingerprints: Sequence[np.ndarray]) -> list[Pair]:
    """Pairs of files of which at least half of the shorter one's frames are found in the other, likest first.

    Every frame is compared with every other, by matrix products: 30,000 frames take minutes.

    Args:
        fingerprints: of each file, uint8 [T, SIDE_PX, SIDE_PX]; T may differ and may be 0.
    """
    usable = [pictures[pictures.std(axis=(1, 2)) >= MIN_DEVIATION] for pictures in fingerprints]
    owners = np.repeat(np.arange(len(usable)), [len(pictures) for pictures in usable])
    if not len(owners):
        return []
    best: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)  # (file, other) -> frame of the file -> likeness
    for frame, other_frame, likeness in _like_frames(np.concatenate(usable), owners):
        for mine, theirs in ((frame, other_frame), (other_frame, frame)):
            found = best[int(owners[mine]), int(owners[theirs])]
            found[mine] = max(found.get(mine, 0.0), likeness)
    pairs = []
    for (first, second), found in best.items():
        mine, theirs = len(usable[first]), len(usable[second])
        shorter = mine < theirs or (mine == theirs and first < second)
        if shorter and len(found) >= MIN_SHARE * mine:
            likeness = min(1.0, sum(found.values()) / len(found))
            pairs.append(Pair(min(first, second), max(first, second), likeness))
    return sorted(pairs, key=lambda pair: (-pair.likeness, pair.first, pair.second))


def _like_frames(pictures: np.ndarray, owners: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Numbers of two frames of different files, and how like they are."""
    grey = pictures.astype(np.float32)
    whole = _describe(grey, CUT_OUTS[0])
    wanted = np.where(_tone_share(pictures) > PLAIN_SHARE, MIN_PLAIN_LIKENESS, MIN_LIKENESS).astype(np.float32)
    for start in range(0, len(grey), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        likeness = np.full((len(grey[block]), len(grey)), -1.0, np.float32)
        for cut_out in CUT_OUTS:
            np.maximum(likeness, _describe(grey[block], cut_out) @ whole.T, out=likeness)
        likeness[owners[block, None] == owners[None, :]] = -1.0
        for row, column in np.argwhere(likeness >= np.maximum(wanted[block, None], wanted[None, :])):
            yield start + int(row), int(column), float(likeness[row, column])


def _tone_share(pictures: np.ndarray) -> np.ndarray:
    """Largest share of pixels within ``TONE_LEVELS`` grey levels: uint8 [N, SIDE_PX, SIDE_PX] to float64 [N]."""
    half = TONE_LEVELS // 2
    counts = np.stack([np.bincount(picture.ravel() // half, minlength=256 // half) for picture in pictures])
    shares: np.ndarray = (counts[:, 1:] + counts[:, :-1]).max(axis=1) / SIDE_PX**2
    return shares


def _describe(pictures: np.ndarray, cut_out: tuple[float, float, float, float]) -> np.ndarray:
    """Unit vectors float32 [N, NUM_COEFFICIENTS**2 - 1] of what is left of float32 pictures [N, SIDE_PX, SIDE_PX]."""
    left, top, right, bottom = cut_out
    rows, columns = _waves(top, bottom), _waves(left, right)
    values = np.einsum("ky,nyx,lx->nkl", rows, pictures, columns, optimize=True)
    order = np.arange(NUM_COEFFICIENTS)
    values *= np.hypot(order[:, None], order[None, :])  # pictures fade as 1/frequency: give all waves a say; mean: none
    vectors = values.reshape(len(values), -1)[:, 1:]
    units: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return units


def _waves(before: float, after: float) -> np.ndarray:
    """float32 [NUM_COEFFICIENTS, SIDE_PX]: cosine transform of the part of a line between two margins."""
    positions = (np.arange(SIDE_PX) + 0.5) / SIDE_PX  # of the resampled line, 0 .. 1
    sources = (before + positions * (1 - before - after)) * SIDE_PX - 0.5
    distance = np.abs(sources[:, None] - np.arange(SIDE_PX)[None, :])
    resample = np.maximum(0, 1 - distance)  # linear interpolation
    cosines = np.cos(np.pi * np.arange(NUM_COEFFICIENTS)[:, None] * positions[None, :])
    waves: np.ndarray = (cosines @ resample).astype(np.float32)
    return waves
