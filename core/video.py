"""A video file to exactly the frames that make a clip, squashed to the square the backbone sees.

Frames are chosen by presentation time, never by counting, so variable frame rate is right. Between
two chosen instants the reader seeks when a keyframe lies between them, and decodes through otherwise.
Scaling happens inside the decoder's colour conversion (one pass from the codec's pixel format to
RGB [S, S], area filter): a 4K frame never exists as an RGB array.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .clips import segment_middles
from .errors import ReelkindError

NUM_FRAMES = 16  # frames of a clip unless a bundle says otherwise
FRAME_SIZE_PX = 224  # side of the square the backbones were pretrained on (ImageNet)

MAX_FRAME_PIXELS = 1 << 26  # 67 Mpx, twice 8K UHD: larger headers are treated as damage, not as pictures
MISSING_TAIL = Fraction(1, 10)  # share of the promised duration that may be absent before a file counts as cut off
MISSING_TAIL_MIN_S = 1  # ... and never less than this: audio often outlasts the last frame by part of a second
BLIND_SEEK_GAP_S = 5  # without a keyframe index, only gaps longer than this are worth trying a seek

Sampler = Callable[[int, int, int], Sequence[int]]
"""(start, duration, num_frames) in ticks -> ascending instants in ticks; see ``core.clips``."""


class VideoError(ReelkindError):
    """A file cannot be read as video. ``str()`` names the file and the reason.

    Attributes:
        path: the file.
        reason: one sentence without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling between processes
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


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
    with _open(path) as container:
        return _describe(path, container, _picture_stream(path, container))


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
    with _open(path) as container:
        stream = _picture_stream(path, container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = num_threads
        info = _describe(path, container, stream)
        start, duration = _extent(path, container, stream)
        targets = list(sampler(start, duration, num_frames))
        frames = np.empty((num_frames, size_px, size_px, 3), np.uint8)
        times_ms = np.empty(num_frames, np.int64)
        chosen: _Picture | None = None
        time_base = _time_base(stream)
        for i, picture in enumerate(_pictures_at(path, container, stream, targets, start, duration)):
            # A repeated picture is converted once.
            frames[i] = frames[i - 1] if picture is chosen else _to_square_rgb(picture.frame, size_px)
            times_ms[i] = round(max(0, picture.pts - start) * time_base * 1000)
            chosen = picture
        return Clip(frames, times_ms, info)


def _open(path: str | os.PathLike[str]) -> InputContainer:
    file = Path(path)
    if not file.exists():
        raise VideoError(path, "no such file")
    if file.is_dir():
        raise VideoError(path, "is a folder, not a video file")
    if file.is_file() and file.stat().st_size == 0:
        raise VideoError(path, "the file is empty (0 bytes)")
    try:
        # The protocol whitelist keeps playlists (m3u8, concat) from opening anything but local files.
        return av.open(os.fspath(file), options={"protocol_whitelist": "file,crypto,data"}, metadata_errors="replace")
    except PermissionError:
        raise VideoError(path, "permission denied") from None
    except (FFmpegError, ValueError, OSError) as error:
        raise VideoError(path, f"not a readable video: {_reason(error)}") from error


def _picture_stream(path: str | os.PathLike[str], container: InputContainer) -> VideoStream:
    covers = av.stream.Disposition.attached_pic
    pictures = [stream for stream in container.streams.video if not stream.disposition & covers]
    if not pictures:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(path, f"no video stream (found: {found})")
    stream = pictures[0]
    if stream.codec_context is None:
        raise VideoError(path, "no decoder for its video codec in this build of FFmpeg")
    if stream.width < 1 or stream.height < 1:
        raise VideoError(path, "damaged header: the video stream has no picture size")
    if stream.width * stream.height > MAX_FRAME_PIXELS:
        raise VideoError(path, f"frames of {stream.width}x{stream.height} exceed {MAX_FRAME_PIXELS} pixels")
    return stream


def _describe(path: str | os.PathLike[str], container: InputContainer, stream: VideoStream) -> VideoInfo:
    duration = _header_duration(container, stream)
    return VideoInfo(
        path=os.fspath(path),
        container=container.format.name,
        codec=stream.codec_context.name,
        pixel_format=stream.codec_context.pix_fmt or "unknown",
        width_px=stream.width,
        height_px=stream.height,
        fps=float(stream.average_rate or 0),
        duration_s=float(duration * _time_base(stream)) if duration else 0.0,
    )


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _header_duration(container: InputContainer, stream: VideoStream) -> int | None:
    """Ticks of the stream's time base, or None where the header does not say."""
    if stream.duration and stream.duration > 0:
        return stream.duration
    if container.duration and container.duration > 0:
        return max(1, int(Fraction(container.duration, av.time_base) / _time_base(stream)))
    return None


def _extent(path: str | os.PathLike[str], container: InputContainer, stream: VideoStream) -> tuple[int, int]:
    """First tick and number of ticks; reads through the packets where the header does not say."""
    duration = _header_duration(container, stream)
    if duration is not None:
        return stream.start_time or 0, duration
    first: int | None = None
    end = 0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                first = packet.pts if first is None else min(first, packet.pts)
                end = max(end, packet.pts + max(1, packet.duration or 0))
        container.seek(0)
    except FFmpegError as error:
        raise VideoError(path, f"damaged or cut off: {_reason(error)}") from error
    return (0, 1) if first is None else (first, end - first)


@dataclass(frozen=True)
class _Picture:
    """A decoded frame and its presentation time in ticks, which is always known."""

    pts: int
    frame: VideoFrame


def _pictures_at(
    path: str | os.PathLike[str],
    container: InputContainer,
    stream: VideoStream,
    targets: Sequence[int],
    start: int,
    duration: int,
) -> Iterator[_Picture]:
    """The picture on screen at each of the ascending ``targets``."""
    seeker = _Seeker(container, stream)
    decoded = _decode(path, container, stream)
    current: _Picture | None = None
    upcoming = next(decoded, None)
    for target in targets:
        if upcoming is not None and seeker.worthwhile(upcoming.pts, target):
            seeker.seek(target)
            decoded = _decode(path, container, stream)
            landed = next(decoded, None)
            if landed is None or landed.pts > target or landed.pts < upcoming.pts:
                # The index lied or there is none: go back to the start and read through from now on.
                seeker.give_up()
                decoded = _decode(path, container, stream)
                landed = next(decoded, None)
            current, upcoming = None, landed
        while upcoming is not None and (current is None or upcoming.pts <= target):
            current, upcoming = upcoming, next(decoded, None)
        if current is None:
            raise VideoError(path, "no frame could be decoded: the file is damaged or cut off")
        if upcoming is None:
            _refuse_cut_off(path, stream, current, start, duration)
        yield current


def _refuse_cut_off(
    path: str | os.PathLike[str], stream: VideoStream, last: _Picture, start: int, duration: int
) -> None:
    time_base = _time_base(stream)
    end = max(0, last.pts + (last.frame.duration or 0) - start)
    allowed = max(duration * MISSING_TAIL, MISSING_TAIL_MIN_S / time_base)
    if stream.frames != 1 and duration - end > allowed:
        raise VideoError(
            path,
            f"cut off: pictures end after {float(end * time_base):.1f} s of the "
            f"{float(duration * time_base):.1f} s its header promises",
        )


class _Seeker:
    """Decides from the container's keyframe index when a seek saves decoding."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        entries = stream.index_entries
        keyframes = [entry.timestamp for entry in entries if entry.is_keyframe]
        # Indexes hold decoding times; the first picture's distance to its presentation time aligns them.
        shift = (stream.start_time or 0) - entries[0].timestamp if len(entries) else 0
        self._keyframes = [timestamp + shift for timestamp in keyframes]
        self._blind_gap = int(BLIND_SEEK_GAP_S / _time_base(stream))
        self._usable = True

    def worthwhile(self, position: int, target: int) -> bool:
        """Whether jumping from the next undecoded ``position`` skips at least one keyframe interval."""
        if not self._usable or target <= position:
            return False
        if len(self._keyframes) > 1:
            before = bisect_right(self._keyframes, target)
            return before > 0 and self._keyframes[before - 1] > position
        return not self._keyframes and target - position > self._blind_gap

    def seek(self, target: int) -> None:
        """Jump to the keyframe before ``target``; to the start if the container cannot."""
        try:
            self._container.seek(target, stream=self._stream, backward=True)
        except (FFmpegError, OSError):
            self.give_up()

    def give_up(self) -> None:
        """Go back to the start; no further seek is worthwhile."""
        self._usable = False
        self._container.seek(self._stream.start_time or 0, stream=self._stream, backward=True)


def _decode(path: str | os.PathLike[str], container: InputContainer, stream: VideoStream) -> Iterator[_Picture]:
    """Pictures from the present position, damaged packets are passed over."""
    step = max(1, int(1 / ((stream.average_rate or 25) * _time_base(stream))))
    last: int | None = None
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError:
                continue  # a damaged packet; if too many are, the picture ends early and that is reported
            for frame in frames:
                if frame.pts is not None:
                    last = frame.pts
                else:  # raw streams carry no timestamps
                    last = (stream.start_time or 0) if last is None else last + step
                yield _Picture(last, frame)
    except FFmpegError as error:
        if last is None:
            raise VideoError(path, f"damaged or cut off: {_reason(error)}") from error


def _to_square_rgb(frame: VideoFrame, size_px: int) -> np.ndarray:
    scaled = frame.reformat(width=size_px, height=size_px, format="rgb24", interpolation="AREA")
    return np.rot90(scaled.to_ndarray(), k=round(frame.rotation / 90) % 4)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
