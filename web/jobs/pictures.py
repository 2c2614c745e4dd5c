"""Frames that were classified, as small JPEG files beside the uploads: what the page shows of a video's attention."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from reelkind.core.files.whole_files import write_whole

_QUALITY = 6  # FFmpeg's scale of 2 (best) .. 31


def save_pictures(folder: Path, frames: np.ndarray, times_ms: np.ndarray) -> list[int]:
    """Write each moment once.

    Args:
        folder: of this video; made if it is not there.
        frames: uint8 RGB [T, S, S, 3]; squeezed into a square, as the networks see them.
        times_ms: int64 [T].

    Returns:
        The moments, ascending.
    """
    folder.mkdir(parents=True, exist_ok=True)
    moments: dict[int, np.ndarray] = {}
    for time_ms, frame in zip(times_ms.tolist(), frames, strict=True):
        moments.setdefault(time_ms, frame)
    for time_ms, frame in moments.items():
        path = picture_path(folder, time_ms)
        if not path.exists():
            write_whole(path, to_jpeg(frame))
    return sorted(moments)


def picture_path(folder: Path, time_ms: int) -> Path:
    """Where the picture of a moment is."""
    return folder / f"{time_ms:d}.jpg"


def kept_moments(folder: Path) -> list[int]:
    """Moments of a video that have a picture, ascending."""
    return sorted(int(path.stem) for path in folder.glob("*.jpg") if path.stem.isdigit())


def to_jpeg(frame: np.ndarray) -> bytes:
    """One picture, uint8 RGB [H, W, 3], to a JPEG file."""
    height, width, _ = frame.shape
    even = frame[: height - height % 2, : width - width % 2]  # chroma of two columns and two rows is one sample
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height = even.shape[1], even.shape[0]
    context.pix_fmt, context.time_base = "yuvj420p", Fraction(1, 25)
    context.options = {"qmin": str(_QUALITY), "qmax": str(_QUALITY)}
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    packets = [*context.encode(picture), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
