"""Clips for the parity ladder: real videos, or pictures made here that say so in their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.video.names import VIDEO_EXTENSIONS

from ..errors import ExportError

NUM_FRAMES_TRIED = (1, 7, 16, 32)  # one frame, a prime, the trained number, twice it


@dataclass(frozen=True)
class ParityClip:
    """A name for the report and uint8 RGB frames [T, S, S, 3]."""

    name: str
    frames: np.ndarray


def video_clips(
    paths: Iterable[str | os.PathLike[str]], size_px: int, num_frames: Sequence[int] = NUM_FRAMES_TRIED
) -> Iterator[ParityClip]:
    """Each video at each number of frames; folders are searched for videos.

    Raises:
        ExportError: if a folder holds no video.
        VideoError: if a file cannot be read.
    """
    from reelkind.video.clip import read_clip  # the decoder: a machine that only measures has none

    for path in map(Path, paths):
        for file in _videos(path):
            for count in num_frames:
                yield ParityClip(file.name, read_clip(file, num_frames=count, size_px=size_px).frames)


def default_clips(size_px: int, num_frames: Sequence[int] = NUM_FRAMES_TRIED) -> Iterator[ParityClip]:
    """The sample videos of a checkout, and everywhere the made-up pictures."""
    samples = Path(__file__).resolve().parents[2] / "samples"
    if samples.is_dir():
        yield from video_clips([samples], size_px, num_frames)
    yield from synthetic_clips(size_px, num_frames)


def synthetic_clips(
    size_px: int, num_frames: Sequence[int] = NUM_FRAMES_TRIED, *, seed: int = 0
) -> Iterator[ParityClip]:
    """Noise, a moving gradient, slides with bars of "text", and flat colours, at each number of frames."""
    for count in num_frames:
        rng = np.random.default_rng((seed, count))
        yield ParityClip("synthetic:noise", rng.integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8))
        yield ParityClip("synthetic:gradient", _gradient(count, size_px))
        yield ParityClip("synthetic:slides", _slides(count, size_px, rng))
        colours = rng.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
        yield ParityClip("synthetic:colours", np.tile(colours, (1, size_px, size_px, 1)))


def extreme_clips(size_px: int, num_frames: int = 1, *, seed: int = 0) -> Iterator[ParityClip]:
    """What drives activations to their limits: black, white, noise, saturated noise and colours, hard edges."""
    rng, shape = np.random.default_rng(seed), (num_frames, size_px, size_px, 3)
    row, column = np.ogrid[:size_px, :size_px]
    checks = np.where((row + column) % 2, 255, 0).astype(np.uint8)[None, ..., None]
    pictures = {
        "black": np.zeros(shape, np.uint8),
        "white": np.full(shape, 255, np.uint8),
        "noise": rng.integers(0, 256, shape, dtype=np.uint8),
        "saturated noise": rng.integers(0, 2, shape, dtype=np.uint8) * np.uint8(255),
        "checkerboard": np.broadcast_to(checks, shape),
    }
    for place, name in enumerate(("red", "green", "blue")):
        pictures[name] = np.zeros(shape, np.uint8)
        pictures[name][..., place] = 255
    for name, frames in pictures.items():
        yield ParityClip(f"extreme:{name}", np.ascontiguousarray(frames))


def _videos(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in VIDEO_EXTENSIONS)
    if not found:
        raise ExportError(f"no video in {path}: name a folder with some, or the files themselves")
    return found


def _gradient(num_frames: int, size_px: int) -> np.ndarray:
    time, row, column = np.ogrid[:num_frames, :size_px, :size_px]
    planes = (4 * row + 9 * time, 3 * column + 5 * time, 2 * (row + column) + 7 * time)
    return np.stack(np.broadcast_arrays(*(plane % 256 for plane in planes)), axis=-1).astype(np.uint8)


def _slides(num_frames: int, size_px: int, rng: np.random.Generator) -> np.ndarray:
    frames = np.full((num_frames, size_px, size_px, 3), 250, np.uint8)
    for frame in frames:
        for top in range(size_px // 8, size_px - size_px // 8, max(2, size_px // 12)):
            width = int(rng.integers(size_px // 4, size_px - size_px // 8))
            frame[top : top + max(1, size_px // 40), size_px // 10 : width] = rng.integers(0, 90, 3)
    return frames
