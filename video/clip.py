"""A video file to exactly the frames that make a clip, squashed to the square the backbone sees.

Frames are chosen by presentation time, never by counting, so variable frame rate is right. Between
two chosen instants the reader seeks when a keyframe lies between them, and decodes through otherwise,
leaving out frames that no other and no instant needs. Key frames may stand in where that costs too much.
Scaling happens inside the decoder's colour conversion (one pass from the codec's pixel format to
RGB [S, S], area filter): a 4K frame never exists as an RGB array.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelkind.core.errors import VideoError as VideoError
from reelkind.core.timing.clips import EXACT, FRAME_SIZE_PX, NUM_FRAMES, SEEKS, Instants, segment_middles

from .container import extent, frame_step, header_duration, open_file, picture_stream, time_base
from .seeking import Picture, pictures_at

CHUNK_FRAMES = 16  # a clip's worth: 2.4 MB at 224 px, a tenth of a second of inference on two CPU cores
MIN_RATE = 0.001  # frames a second of a stream; one in a quarter of an hour
MAX_RATE = 1000.0  # frames a second of a stream; no camera is faster where one label is wanted
STILL_S = 60  # a picture may stay for so long, as slides do ...
MAX_STILL_FRAMES = 100_000  # ... and repeat so many frames of a stream beyond that, 14 hours at two frames a second


@dataclass(frozen=True)
class Clip:
    """The chosen frames of one video.

    Attributes:
        frames: uint8 RGB [T, S, S, 3], upright (rotation applied), 0 .. 255.
        times_ms: int64 [T], presentation time of each frame from the start of the video, ascending.
        duration_s: of the video by its header; 0.0 if that does not say.
        num_stand_ins: key frames among them that stand in for a later frame; see ``read_clip``.
    """

    frames: np.ndarray
    times_ms: np.ndarray
    duration_s: float
    num_stand_ins: int = 0


@dataclass(frozen=True)
class Chunk:
    """Some frames of a long video, in order: a piece of ``read_stream``.

    Attributes:
        frames: uint8 RGB [N, S, S, 3], upright, 0 .. 255.
        times_ms: int64 [N], presentation time of each from the start of the video, ascending.
        position_ms: how far the video has been read; of the last chunk, where its pictures end.
        duration_ms: how long the pictures last by the header, or by the packets where the header does not say.
        is_last: whether there are no more.
    """

    frames: np.ndarray
    times_ms: np.ndarray
    position_ms: int
    duration_ms: int
    is_last: bool


def read_clip(
    path: str | os.PathLike[str],
    *,
    num_frames: int = NUM_FRAMES,
    size_px: int = FRAME_SIZE_PX,
    num_threads: int = 0,
    seek: str = EXACT,
) -> Clip:
    """Decode exactly the frames a clip needs, or key frames near them.

    The frame of an instant is the one on screen then: the last with a timestamp at or before it.
    A video with fewer frames than ``num_frames``, and a still picture, repeat frames.

    Args:
        path: a local file of any container and codec FFmpeg reads.
        num_frames: T.
        size_px: S; the whole frame is scaled to S x S, aspect not kept (edges are evidence).
        num_threads: decoder threads, 0 lets FFmpeg choose.
        seek: one of ``SEEKS``. With ``keyframes``, the last key frame before an instant stands in for the frame on
            screen, if it is at most a sixth of the video before it; with ``auto``, once many pixels have been decoded.

    Raises:
        VideoError: if the file is missing, empty, no video, damaged, or ends well before its header says.
    """
    with open_file(path) as container:
        stream = _prepared_stream(path, container, num_threads)
        start, duration = extent(path, container, stream)
        targets = segment_middles(start, duration, num_frames)
        header_ticks = header_duration(container, stream) or 0
        frames = np.empty((num_frames, size_px, size_px, 3), np.uint8)
        times_ms = np.empty(num_frames, np.int64)
        num_stand_ins = 0
        chosen: VideoFrame | None = None
        tick = time_base(stream)
        pictures = pictures_at(path, container, stream, targets, start, duration, SEEKS[seek])
        for i, picture in enumerate(pictures):
            # A repeated picture is converted once.
            frames[i] = frames[i - 1] if picture.frame is chosen else _to_square_rgb(picture.frame, size_px)
            times_ms[i] = _to_ms(picture.pts - start, tick)
            num_stand_ins += picture.stands_in
            chosen = picture.frame
        return Clip(frames, times_ms, float(header_ticks * tick), num_stand_ins)


def read_stream(
    path: str | os.PathLike[str], *, rate: float, size_px: int = FRAME_SIZE_PX, num_threads: int = 0
) -> Iterator[Chunk]:
    """Decode a video of any length from its start to its end, at a fixed rate, in constant memory.

    Frame i is the one on screen in the middle of the interval ``[i / rate, (i + 1) / rate)`` seconds, so T frames in a
    row are the clip that ``read_clip`` makes of the time they fill. Every video has at least one frame.

    Args:
        path: a local file of any container and codec FFmpeg reads.
        rate: frames a second of the video, whatever its own rate.
        size_px: S, as in ``read_clip``.
        num_threads: decoder threads, 0 lets FFmpeg choose.

    Yields:
        Chunks of ``CHUNK_FRAMES`` frames, the last of fewer; none is empty.

    Raises:
        VideoError: as ``read_clip``; in a file that is cut off, after what can be read of it has been yielded.
        ValueError: if ``rate`` is below ``MIN_RATE`` or exceeds ``MAX_RATE``.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"rate must be from {MIN_RATE} to {MAX_RATE} frames a second, got {rate}")
    with open_file(path) as container:
        reader = _StreamReader(path, container, exact_rate(rate), size_px, num_threads)
        pending: list[_Square] = []
        try:
            for square in reader.squares():
                if len(pending) == CHUNK_FRAMES:  # not before there is another: the last chunk knows the end
                    yield reader.chunk(pending)
                    pending = []
                pending.append(square)
        except VideoError:
            if pending:
                yield reader.chunk(pending, is_last=True, cut_off=True)
            raise
        yield reader.chunk(pending, is_last=True)


def exact_rate(rate: float) -> Fraction:
    """Frames a second as the fraction that was meant: 0.1 is a tenth.

    >>> exact_rate(29.97)
    Fraction(2997, 100)
    """
    return Fraction(rate).limit_denominator(1000)


@dataclass(frozen=True)
class _Square:
    time_ms: int
    pixels: np.ndarray  # uint8 RGB [S, S, 3]


class _StreamReader:
    """An open file to the squares at the instants of a rate, and pieces of them to chunks."""

    def __init__(
        self, path: str | os.PathLike[str], container: InputContainer, rate: Fraction, size_px: int, num_threads: int
    ) -> None:
        stream = _prepared_stream(path, container, num_threads)
        self._path = path
        self._num_still = Fraction(0)  # frames that repeat what has been on screen for ``STILL_S``
        self._start, self._duration = extent(path, container, stream)
        self._end = self._start + self._duration
        self._stream = stream
        self._tick = time_base(stream)
        self._rate = rate
        self._targets = Instants(self._start, self._duration, 1 / (rate * self._tick))
        self._pictures = pictures_at(path, container, stream, self._targets, self._start, self._duration)
        self._size_px = size_px
        self._num_chunked = 0

    def squares(self) -> Iterator[_Square]:
        """The square of each instant, up to where the pictures end, which may be before the header's end.

        Raises:
            VideoError: if pictures cannot be decoded, or by their timestamps stay on screen as no video's do.
        """
        chosen: VideoFrame | None = None
        pixels = np.empty(0, np.uint8)
        for target, picture in zip(self._targets, self._pictures, strict=True):
            if picture.is_last:
                self._end = picture.pts + (picture.frame.duration or frame_step(self._stream))
                if chosen is not None and target >= self._end:
                    return
            if picture.frame is not chosen:  # a repeated picture is converted once
                self._refuse_lying_timestamps(picture)
                chosen, pixels = picture.frame, _to_square_rgb(picture.frame, self._size_px)
            yield _Square(_to_ms(picture.pts - self._start, self._tick), pixels)

    def _refuse_lying_timestamps(self, picture: Picture) -> None:
        """Keep the length of a stream within what its pictures can fill: a timestamp is a number of 64 bits."""
        until = min(self._end if picture.until is None else picture.until, self._start + self._duration)
        stay_s = (until - picture.pts) * self._tick
        self._num_still += max(Fraction(0), stay_s - STILL_S) * self._rate
        if self._num_still > MAX_STILL_FRAMES:
            raise VideoError(
                self._path,
                f"damaged timestamps: after {_to_ms(picture.pts - self._start, self._tick) / 1000:.1f} s a picture "
                f"stays for {float(stay_s / 3600):.1f} hours, and {float(self._num_still):.0f} frames would show "
                f"nothing new (at most {MAX_STILL_FRAMES})",
            )

    def chunk(self, squares: Sequence[_Square], *, is_last: bool = False, cut_off: bool = False) -> Chunk:
        """The next piece."""
        self._num_chunked += len(squares)
        read_ms, end_ms = round(self._num_chunked * 1000 / self._rate), _to_ms(self._end - self._start, self._tick)
        return Chunk(
            np.stack([square.pixels for square in squares]),
            np.array([square.time_ms for square in squares], np.int64),
            end_ms if is_last and not cut_off else read_ms,
            _to_ms(self._duration, self._tick),
            is_last,
        )


def _prepared_stream(path: str | os.PathLike[str], container: InputContainer, num_threads: int) -> VideoStream:
    stream = picture_stream(path, container)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = num_threads
    return stream


def _to_ms(ticks: int, tick: Fraction) -> int:
    return round(max(0, ticks) * tick * 1000)


def _to_square_rgb(frame: VideoFrame, size_px: int) -> np.ndarray:
    scaled = frame.reformat(width=size_px, height=size_px, format="rgb24", interpolation="AREA")
    return np.rot90(scaled.to_ndarray(), k=round(frame.rotation / 90) % 4)
