"""Short videos in every container and codec that the bundled FFmpeg writes: what bad files are made from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

SIZE_PX = (96, 64)  # width, height
FIXED_SIZES_PX = {"h261": (176, 144), "h263": (176, 144), "dvvideo": (720, 576), "dnxhd": (256, 128)}
NUM_FRAMES = 12
RATE = 25
PIXEL_FORMATS = ("yuv420p", "yuv422p", "yuvj420p", "rgb24", "bgr24", "rgb8", "gray", "monob")
STILL = "image2pipe"  # the muxer of a single picture

_MUXERS = """
    matroska webm mov mp4 3gp 3g2 ipod psp ismv f4v avi asf flv mpeg vob svcd vcd dvd mpegts mxf mxf_opatom nut ogg ogv
    rm wtv gxf dv swf roq film_cpk filmstrip smjpeg ivf obu h261 h263 h264 hevc m4v mjpeg mpeg1video mpeg2video dirac
    dnxhd vc1 vc1test cavsvideo avs2 avs3 vvc evc yuv4mpegpipe gif apng webp avif amv avm2 a64 apm image2pipe
"""
# Of graphics cards and their drivers; for terminals; that write no picture.
_NO_ENCODERS = ("_amf", "_nvenc", "_qsv", "_v4l2m2m", "_vaapi", "_vulkan", "vnull", "wrapped_avframe", "xface")


@dataclass(frozen=True)
class Seed:
    """A sound video.

    Attributes:
        muxer: who wrote its container, by FFmpeg's name.
        codec: who encoded its pictures.
        path: the file.
    """

    muxer: str
    codec: str
    path: Path


def encoders() -> list[str]:
    """Names of the video encoders that run on a CPU."""
    found = []
    for name in sorted(av.codecs_available):
        with suppress(ValueError, FFmpegError):
            if av.Codec(name, "w").type == "video" and not name.endswith(_NO_ENCODERS):
                found.append(name)
    return found


def muxers() -> list[str]:
    """Names of the muxers whose files hold pictures themselves."""
    return [name for name in _MUXERS.split() if name in av.formats_available]


def write_all(folder: Path, codecs: list[str] | None = None, containers: list[str] | None = None) -> Iterator[Seed]:
    """Write a video for each pair of container and codec that FFmpeg agrees to.

    Args:
        folder: where to.
        codecs: encoders to try; all by default.
        containers: muxers to try; all by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for codec in encoders() if codecs is None else codecs:
        for muxer in muxers() if containers is None else containers:
            path = folder / f"{muxer}-{codec}.bin"  # the name says nothing: content is what is looked at
            with suppress(FFmpegError, ValueError, OSError, TypeError):
                write(path, muxer, codec)
            if path.is_file() and path.stat().st_size:
                yield Seed(muxer, codec, path)
            else:
                path.unlink(missing_ok=True)


def write(path: Path, muxer: str, codec: str, num_frames: int = NUM_FRAMES) -> None:
    """One video of moving squares, with one frame where the container is a picture.

    Raises:
        FFmpegError: if the codec does not go into the container.
        ValueError: if PyAV refuses before.
    """
    width, height = FIXED_SIZES_PX.get(codec, SIZE_PX)
    with av.open(str(path), "w", format=muxer) as output:
        stream = output.add_stream(codec, rate=RATE, options=_options(codec))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, _pixel_format(stream.codec_context)
        stream.codec_context.gop_size = 6
        for number in range(1 if muxer == STILL else num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def picture(number: int, width_px: int, height_px: int) -> np.ndarray:
    """A square that moves over a gradient: uint8 RGB [H, W, 3]."""
    across = np.linspace(0, 255, width_px, dtype=np.uint8)[None, :, None]
    found = np.broadcast_to(across, (height_px, width_px, 3)).copy()
    left = number * 5 % (width_px - 16)
    found[height_px // 3 : height_px // 3 + 16, left : left + 16] = (255, 40, number * 20 % 256)
    return found


def _options(codec: str) -> dict[str, str]:
    if codec in ("libx264", "libx264rgb", "h264"):
        return {"preset": "ultrafast"}
    if codec in ("libx265", "hevc"):
        return {"preset": "ultrafast", "x265-params": "log-level=none"}
    if codec in ("libsvtav1", "av1"):
        return {"preset": "12"}
    if codec.startswith(("libvpx", "vp8", "vp9")):
        return {"deadline": "realtime", "cpu-used": "8"}
    if codec == "dnxhd":
        return {"profile": "dnxhr_lb"}
    return {"strict": "experimental"}


def _pixel_format(context: VideoCodecContext) -> str:
    known = [format_.name for format_ in context.codec.video_formats or ()]
    drawn = [name for name in (*PIXEL_FORMATS, *known) if name in known and name != "pal8"]  # pictures here are RGB
    return drawn[0] if drawn else PIXEL_FORMATS[0]
