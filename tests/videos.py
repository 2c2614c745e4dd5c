"""Synthetic videos whose pictures say which frame they are, so that a test can tell what was decoded.

A frame's index is drawn as ``NUM_BITS`` black and white vertical bars, most significant bit left. Bars survive any
codec, pixel format and scaling, in colour and in grey.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType

NUM_BITS = 10
CORNERS = {"top_left": (255, 0, 0), "top_right": (0, 255, 0), "bottom_left": (0, 0, 255), "bottom_right": (255,) * 3}


def bars(index: int, width_px: int, height_px: int) -> np.ndarray:
    """The picture of frame ``index``: uint8 RGB [H, W, 3]."""
    bits = [(index >> bit) & 1 for bit in reversed(range(NUM_BITS))]
    columns = np.array(bits)[np.arange(width_px) * NUM_BITS // width_px]  # [W]
    return np.broadcast_to((columns * 255).astype(np.uint8)[None, :, None], (height_px, width_px, 3)).copy()


def corners(index: int, width_px: int, height_px: int) -> np.ndarray:
    """Four coloured quadrants, the same for every index: uint8 RGB [H, W, 3]."""
    del index
    picture = np.zeros((height_px, width_px, 3), np.uint8)
    half_h, half_w = height_px // 2, width_px // 2
    picture[:half_h, :half_w] = CORNERS["top_left"]
    picture[:half_h, half_w:] = CORNERS["top_right"]
    picture[half_h:, :half_w] = CORNERS["bottom_left"]
    picture[half_h:, half_w:] = CORNERS["bottom_right"]
    return picture


def read_index(picture: np.ndarray) -> int:
    """Which frame a decoded picture, uint8 RGB [H, W, 3], shows."""
    height, width, _ = picture.shape
    middles = [(2 * bit + 1) * width // (2 * NUM_BITS) for bit in range(NUM_BITS)]
    rows = picture[height // 4 : 3 * height // 4, middles].mean(axis=(0, 2))  # [NUM_BITS]
    return sum(1 << (NUM_BITS - 1 - bit) for bit, level in enumerate(rows) if level > 127)


def read_indices(frames: np.ndarray) -> list[int]:
    """Which frames a clip, uint8 RGB [T, H, W, 3], shows."""
    return [read_index(picture) for picture in frames]


def write_video(
    path: Any,
    num_frames: int = 50,
    *,
    fps: int | Fraction = 25,
    pts_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size_px: tuple[int, int] = (160, 96),
    gop: int = 12,
    b_frames: int = 0,
    keyframes: Sequence[int] = (),
    codec_options: Mapping[str, str] | None = None,
    container: str | None = None,
    container_options: Mapping[str, str] | None = None,
    audio_s: float = 0.0,
    picture: Callable[[int, int, int], np.ndarray] = bars,
) -> Path:
    """Encode ``num_frames`` frames, or one per entry of ``pts_ms`` (variable frame rate).

    Args:
        path: where to, or a file open for writing; the extension chooses the container unless ``container`` names one.
        num_frames: ignored where ``pts_ms`` is given.
        fps: constant frame rate.
        pts_ms: presentation times in milliseconds, ascending.
        codec: FFmpeg encoder.
        pixel_format: what the encoder stores.
        size_px: (width, height).
        gop: most frames from keyframe to keyframe.
        b_frames: bidirectional frames in a row.
        keyframes: indices forced to be keyframes.
        codec_options: private options of the encoder.
        container: FFmpeg muxer name.
        container_options: options of the muxer.
        audio_s: seconds of silence beside the pictures.
        picture: index, width, height -> uint8 RGB [H, W, 3].
    """
    options = {"preset": "ultrafast", "sc_threshold": "0"} if codec in ("libx264", "libx265") else {}
    if codec == "libx265":
        options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    target = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    with av.open(target, "w", format=container, options=dict(container_options or {})) as output:
        rate = Fraction(1000) if pts_ms is not None else Fraction(fps)
        stream = output.add_stream(codec, rate=rate, options={**options, **(codec_options or {})})
        stream.width, stream.height = size_px
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base = 1 / rate
        context.gop_size = gop
        context.max_b_frames = b_frames
        sound = output.add_stream("aac" if _takes_aac(output) else "libopus", rate=48000) if audio_s else None
        for index, pts in enumerate(pts_ms if pts_ms is not None else range(num_frames)):
            frame = av.VideoFrame.from_ndarray(picture(index, *size_px), format="rgb24")
            frame.pts, frame.time_base = pts, 1 / rate
            if index in keyframes:
                frame.pict_type = PictureType.I
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            for start in range(0, int(audio_s * 48000), 960):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="flt", layout="stereo")
                silence.sample_rate, silence.pts, silence.time_base = 48000, start, Fraction(1, 48000)
                output.mux(sound.encode(silence))
            output.mux(sound.encode(None))
    return Path(target if isinstance(target, str) else "")


def _takes_aac(output: av.container.OutputContainer) -> bool:
    return output.format.name not in ("webm", "ogg")


def decode_everything(path: str | os.PathLike[str]) -> tuple[list[int], list[int], Fraction]:
    """Oracle: every frame in order without seeking, as (timestamps, indices shown, seconds per tick)."""
    with av.open(os.fspath(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        frames = list(container.decode(stream))
        shown = [read_index(frame.to_ndarray(format="rgb24")) for frame in frames]
        return [frame.pts for frame in frames], shown, Fraction(stream.time_base)


def on_screen(timestamps: Sequence[int], instant: float | Fraction) -> int:
    """Oracle: position of the last timestamp at or before ``instant``, the first if there is none."""
    before = [position for position, timestamp in enumerate(timestamps) if timestamp <= instant]
    return before[-1] if before else 0
