"""Videos of any length that say which frame is which: its number, in black and white, across the top of the picture.

Ten seconds are encoded and repeated until the time is filled, so that hours are written in seconds; numbers start anew
with every repeat.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelkind.benchmarks.labelled_clips import sample_paths

FPS = 25
BASE_FRAMES = 250  # 10 s: the longest group of pictures
_BITS = 8
_STRIP = 4  # 1/4 of the height is the number's

ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    # No B-frames: packets are repeated with timestamps in their own order.
    "h264": ("libx264", {"preset": "veryfast", "bf": "0", "sc_threshold": "0", "crf": "28"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=0:scenecut=0:open-gop=0"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "auto-alt-ref": "0"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "pred-struct=1:scd=0:lookahead=0"}),
}
"""Codec -> FFmpeg's encoder and its options."""


@dataclass(frozen=True)
class Made:
    """What a video should be.

    Attributes:
        codec: key of ``ENCODERS``.
        height_px: of 16:9 pictures.
        seconds: at ``FPS``.
        gop_s: seconds from keyframe to keyframe, at most ten.
    """

    codec: str
    height_px: int
    seconds: int
    gop_s: int

    @property
    def num_frames(self) -> int:
        """In the whole video."""
        return self.seconds * FPS

    @property
    def width_px(self) -> int:
        """Even, as encoders want it."""
        return self.height_px * 16 // 9 // 2 * 2

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.codec}_{self.height_px}p_{self.seconds}s_gop{self.gop_s}.mp4"


def make(made: Made, folder: Path) -> Path:
    """The file, written unless it is there.

    Raises:
        av.FFmpegError: if this FFmpeg lacks the encoder or cannot write the codec.
    """
    path = folder / made.name
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial_{path.name}")
    with av.open(_base(made), "r") as source, av.open(str(partial), "w", format="mp4") as output:
        stream = _like(source.streams.video[0], made, output)
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number in range(made.num_frames):
            original = packets[number % len(packets)]
            packet = Packet(bytes(original))
            packet.is_keyframe, packet.stream = original.is_keyframe, stream
            packet.time_base, packet.duration = Fraction(1, FPS), 1
            packet.pts = packet.dts = number
            output.mux(packet)
    partial.replace(path)
    return path


def read_numbers(frames: np.ndarray) -> list[int]:
    """Which frames these are, within their repeat.

    Args:
        frames: uint8 [T, S, S, 3], scaled to any size.
    """
    height, width = frames.shape[1:3]
    row = height // _STRIP // 2
    columns = [(2 * bit + 1) * width // (2 * _BITS) for bit in range(_BITS)]
    bright = frames[:, row, columns].mean(axis=-1) > 127  # [T, bits]
    return [int(value) for value in bright @ (1 << np.arange(_BITS))]


def expected_numbers(num_frames: int, num_chosen: int) -> list[int]:
    """Numbers of the frames on screen in the middles of ``num_chosen`` equal parts of a video."""
    return [index % BASE_FRAMES for index in middles(num_frames, num_chosen)]


def middles(num_frames: int, num_chosen: int) -> list[int]:
    """Their places in the whole video."""
    return [(2 * i + 1) * num_frames // (2 * num_chosen) for i in range(num_chosen)]


def _like(template: VideoStream, made: Made, output: OutputContainer) -> VideoStream:
    """A stream that takes the packets of another one."""
    if made.codec != "av1":
        return output.add_stream_from_template(template)
    # PyAV looks for an encoder of the decoder's name, which libdav1d has not; the muxer reads the rest from packets.
    stream = output.add_mux_stream("av1", rate=FPS, width=made.width_px, height=made.height_px)
    assert isinstance(stream, VideoStream)
    return stream


def _base(made: Made) -> io.BytesIO:
    os.environ.setdefault("SVT_LOG", "1")  # errors alone
    encoder, options = ENCODERS[made.codec]
    encoded = io.BytesIO()
    with av.open(encoded, "w", format="mp4") as output:
        stream = output.add_stream(encoder, rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = made.width_px, made.height_px, "yuv420p"
        stream.codec_context.gop_size = made.gop_s * FPS
        for number, picture in enumerate(itertools.islice(_background(made), BASE_FRAMES)):
            luma = picture[: made.height_px]
            for bit in range(_BITS):
                left, right = (edge * made.width_px // _BITS for edge in (bit, bit + 1))
                luma[: made.height_px // _STRIP, left:right] = 235 if number >> bit & 1 else 16
            frame = VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    encoded.seek(0)
    return encoded


def _background(made: Made) -> Iterator[np.ndarray]:
    """A sample that moves as cameras do, over and over: uint8 [3/2 height, width], YUV 4:2:0."""
    path = next(path for path in sample_paths() if path.name.startswith("natural"))
    while True:
        with av.open(str(path)) as source:
            for frame in source.decode(video=0):
                yield frame.reformat(made.width_px, made.height_px, format="yuv420p").to_ndarray()
