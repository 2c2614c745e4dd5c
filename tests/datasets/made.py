"""Made-up scenes that differ as real ones do, encoded to real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from videos import write_video

SIZE_PX = (192, 128)


def scene(seed: int, width_px: int = 192, height_px: int = 128) -> np.ndarray:
    """Smooth coloured blobs, other ones for each seed: uint8 RGB [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width_px, height_px), Image.Resampling.BICUBIC))


def panning(seed: int, step_px: int) -> Callable[[int, int, int], np.ndarray]:
    """A pan over a scene, ``step_px`` a frame, for ``write_video``."""
    wide = scene(seed, 2 * SIZE_PX[0], SIZE_PX[1])

    def picture(index: int, width_px: int, height_px: int) -> np.ndarray:
        start = min(step_px * index, wide.shape[1] - SIZE_PX[0])
        cut = Image.fromarray(wide[:, start : start + SIZE_PX[0]])
        return np.asarray(cut.resize((width_px, height_px), Image.Resampling.BILINEAR))

    return picture


def write_scene(path: Path, seed: int, num_frames: int = 40, step_px: int = 2, **options: Any) -> Path:
    """A video of ``panning(seed)`` at 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, num_frames, **{"size_px": SIZE_PX, "picture": panning(seed, step_px), **options})
