"""Short clips to a long video whose contents are known: each is encoded once and repeated until its time is filled."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

FPS = 25
SIZE_PX = (456, 256)  # width, height; proportions are not kept, as models do not keep them either


def make(clips: Sequence[str | os.PathLike[str]], segment_s: float, path: str | os.PathLike[str]) -> None:
    """Write an H.264 video of ``len(clips)`` segments of ``segment_s`` seconds, the first frame of each a keyframe."""
    num_frames = round(segment_s * FPS)
    with av.open(os.fspath(path), "w") as output:
        stream: VideoStream | None = None
        for number, clip in enumerate(clips):
            with av.open(_encoded(clip), "r") as source:
                if stream is None:
                    stream = output.add_stream_from_template(source.streams.video[0])
                packets = [packet for packet in source.demux(video=0) if packet.size]
                for i in range(num_frames):
                    original = packets[i % len(packets)]
                    packet = Packet(bytes(original))
                    packet.is_keyframe = original.is_keyframe
                    packet.stream, packet.time_base, packet.duration = stream, Fraction(1, FPS), 1
                    packet.pts = packet.dts = number * num_frames + i
                    output.mux(packet)


def _encoded(clip: str | os.PathLike[str]) -> io.BytesIO:
    """The clip at ``FPS`` and ``SIZE_PX``, all clips by the same encoder with the same settings."""
    encoded = io.BytesIO()
    with av.open(os.fspath(clip)) as source, av.open(encoded, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "bf": "0"})
        stream.width, stream.height = SIZE_PX
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(_at_constant_rate(source)):
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    encoded.seek(0)
    return encoded


def _at_constant_rate(source: InputContainer) -> Iterator[VideoFrame]:
    """The frame on screen at each instant, scaled."""
    shown: VideoFrame | None = None
    num_frames = 0
    for frame in chain(source.decode(video=0), [None]):
        if shown is not None:
            lasts_s = shown.duration * (shown.time_base or 0) or 1 / FPS
            end_s = (shown.time or 0) + float(lasts_s) if frame is None else frame.time or 0
            while num_frames / FPS < end_s:
                yield shown.reformat(*SIZE_PX, format="yuv420p")
                num_frames += 1
        shown = frame
