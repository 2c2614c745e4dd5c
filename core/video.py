"""A video file to exactly the frames that make a clip, squashed to the square the backbone sees.

Frames are chosen by presentation time, never by counting, so variable frame rate is right. Between
two chosen instants the reader seeks when a keyframe lies between them, and decodes through otherwise,
leaving out frames that no other and no instant needs.
Scaling happens inside the decoder's colour conversion (one pass from the codec's pixel format to
RGB [S, S], area filter): a 4K frame never exists as an RGB array.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ._frames import Picture, pictures_at
from .clips import FRAME_SIZE_PX, NUM_FRAMES, segment_middles
from .container import extent, header_duration, open_file, picture_stream, time_base
from .errors import VideoError as VideoError

Sampler = Callable[[int, int, int], Sequence[int]]
"""(start, duration, num_frames) in ticks -> ascending instants in ticks; see ``core.clips``."""


@dataclass(frozen=True)
class VideoInfo:
    """What the container's header says.

    Attributes:
        path: the file.
        container: FFmpeg's demuxer name, e.g. ``"mov,mp4,m4a,3gp,3g2,mj2"``.
        codec: e.g. ``"h264"``.
        pixel_format: e.g. ``"yuv420p"``.
        width_px, height_px: coded size, before rotation.
        fps: average frames per second; 0.0 if unknown (stills, variable rate without header).
        duration_s: length of the video stream in seconds; 0.0 if the header does not say.
    """

    path: str
    container: str
    codec: str
    pixel_format: str
    width_px: int
    height_px: int
    fps: float
    duration_s: float


@dataclass(frozen=True)
class Clip:
    """The chosen frames of one video.

    Attributes:
        frames: uint8 RGB [T, S, S, 3], upright (rotation applied), 0 .. 255.
        times_ms: int64 [T], presentation time of each frame from the start of the video, ascending.
        info: the file's header.
    """

    frames: np.ndarray
    times_ms: np.ndarray
    info: VideoInfo


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read a file's header without decoding.

    Raises:
        VideoError: if the file is missing, empty, not a video, or has no picture stream.
    """
    with open_file(path) as container:
        return _describe(path, container, picture_stream(path, container))


def read_clip(
    path: str | os.PathLike[str],
    *,
    num_frames: int = NUM_FRAMES,
    size_px: int = FRAME_SIZE_PX,
    sampler: Sampler = segment_middles,
    num_threads: int = 0,
) -> Clip:
    """Decode exactly the frames a clip needs.

    The frame of an instant is the one on screen then: the last with a timestamp at or before it.
    A video with fewer frames than ``num_frames``, and a still picture, repeat frames.

    Args:
        path: a local file of any container and codec FFmpeg reads.
        num_frames: T.
        size_px: S; the whole frame is scaled to S x S, aspect not kept (edges are evidence).
        sampler: which instants; the default is the TSN test rule.
        num_threads: decoder threads, 0 lets FFmpeg choose.

    Raises:
        VideoError: if the file is missing, empty, no video, damaged, or ends well before its header says.
    """
    with open_file(path) as container:
        stream = picture_stream(path, container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads
        info = _describe(path, container, stream)
        start, duration = extent(path, container, stream)
        targets = list(sampler(start, duration, num_frames))
        frames = np.empty((num_frames, size_px, size_px, 3), np.uint8)
        times_ms = np.empty(num_frames, np.int64)
        chosen: Picture | None = None
        tick = time_base(stream)
        for i, picture in enumerate(pictures_at(path, container, stream, targets, start, duration)):
            # A repeated picture is converted once.
            frames[i] = frames[i - 1] if picture is chosen else _to_square_rgb(picture.frame, size_px)
            times_ms[i] = round(max(0, picture.pts - start) * tick * 1000)
            chosen = picture
        return Clip(frames, times_ms, info)


def _describe(path: str | os.PathLike[str], container: InputContainer, stream: VideoStream) -> VideoInfo:
    duration = header_duration(container, stream)
    return VideoInfo(
        path=os.fspath(path),
        container=container.format.name,
        codec=stream.codec_context.name,
        pixel_format=stream.codec_context.pix_fmt or "unknown",
        width_px=stream.width,
        height_px=stream.height,
        fps=float(stream.average_rate or 0),
        duration_s=float(duration * time_base(stream)) if duration else 0.0,
    )


def _to_square_rgb(frame: VideoFrame, size_px: int) -> np.ndarray:
    scaled = frame.reformat(width=size_px, height=size_px, format="rgb24", interpolation="AREA")
    return np.rot90(scaled.to_ndarray(), k=round(frame.rotation / 90) % 4)
