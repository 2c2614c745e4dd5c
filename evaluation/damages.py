"""A video file to a damaged copy of it: other bitrate, size, frame rate, framing or colours.

A classifier that reads the picture keeps its answer; one that learnt a shortcut (a codec, a palette, black bars that
came with the sources of one class) does not. The copies are real files, so that they pass the very path of serving.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelkind.core.errors import VideoError
from reelkind.video.container import open_file, picture_stream, reason

VERSION = 1  # part of every copy's name: raise it whenever the same `Damage` gives other pixels
MAX_FPS = 60
DEFAULT_FPS = 25  # of what states no rate

Filters = tuple[tuple[str, str], ...]  # name and arguments of FFmpeg filters, in order

_SHORT_SIDE = "w='if(gte(iw,ih),-2,{0})':h='if(gte(iw,ih),{0},-2)':flags=bicubic"
_EVEN = ("crop", "w=trunc(iw/2)*2:h=trunc(ih/2)*2")  # 4:2:0 has no odd sizes
_UPRIGHT: dict[int, Filters] = {
    0: (),
    1: (("transpose", "cclock"),),
    2: (("hflip", ""), ("vflip", "")),
    3: (("transpose", "clock"),),
}  # quarter turns against the clock, as video.clip turns pictures
_PALETTE_COLOURS = 64


def _x264(crf: int) -> dict[str, str]:
    return {"crf": str(crf), "preset": "superfast"}


@dataclass(frozen=True)
class Damage:
    """One way to damage a file.

    Attributes:
        name: of the row in the report, and of the folder of copies.
        what: a few words for the report.
        filters: applied to every frame.
        fps: frames a second of the copy; None keeps the rate, within 1 .. 60.
        codec: FFmpeg encoder.
        options: of the encoder.
        container: FFmpeg muxer, which is the copy's suffix too.
        pixel_format: what the encoder stores; ``pal8`` makes a palette for every frame.
    """

    name: str
    what: str
    filters: Filters = ()
    fps: int | None = None
    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=lambda: _x264(18))
    container: str = "mp4"
    pixel_format: str = "yuv420p"

    @property
    def key(self) -> str:
        """Name and digest of everything that decides about the copy's pixels."""
        options = sorted(self.options.items())
        recipe = (VERSION, self.filters, self.fps, self.codec, options, self.container, self.pixel_format)
        return f"{self.name}_{hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]}"


def _bars(name: str, axis: str, share: float) -> Damage:
    grown = f"ceil(i{axis}/{1 - 2 * share:g}/2)*2"
    place = f"{'y' if axis == 'h' else 'x'}=(o{axis}-i{axis})/2"
    sides = "above and below" if axis == "h" else "left and right"
    return Damage(name, f"black bars of {share:.0%} {sides}", (("pad", f"{axis}={grown}:{place}:color=black"),))


DAMAGES: tuple[Damage, ...] = (
    Damage("h264_crf18", "re-encoded, hardly visible (control)"),
    Damage("h264_crf35", "re-encoded, poor", options=_x264(35)),
    Damage("h264_crf45", "re-encoded, very poor", options=_x264(45)),
    Damage("mpeg4_q20", "MPEG-4 part 2, quantiser 20", codec="mpeg4", options={"qmin": "20", "qmax": "20"}),
    Damage(
        "vp9_crf50",
        "VP9, poor",
        codec="libvpx-vp9",
        options={"crf": "50", "b": "0", "deadline": "realtime", "cpu-used": "8"},
        container="webm",
    ),
    Damage("size_144p", "scaled to 144p", (("scale", _SHORT_SIDE.format(144)),)),
    Damage("size_720p", "scaled to 720p", (("scale", _SHORT_SIDE.format(720)),)),
    Damage("fps_10", "10 frames a second", fps=10),
    Damage("fps_60", "60 frames a second", fps=60),
    _bars("letterbox_12", "h", 0.12),  # 2.39:1 in 16:9
    _bars("letterbox_20", "h", 0.20),  # 2.39:1 in 4:3
    _bars("pillarbox_12", "w", 0.12),  # 4:3 in 16:9
    _bars("pillarbox_20", "w", 0.20),  # 1:1 in 16:9
    Damage("flip", "mirrored", (("hflip", ""),)),
    Damage("grey", "greyscale", (("hue", "s=0"),)),
    Damage(
        "gif_64",
        f"GIF, 10 frames a second, {_PALETTE_COLOURS} dithered colours",
        fps=10,
        codec="gif",
        options={},
        container="gif",
        pixel_format="pal8",
    ),
)
"""What the shortcut report tries. Whatever is not about the codec is stored nearly without loss."""


def damaged_path(folder: Path, source_hash: str, damage: Damage) -> Path:
    """Where the copy of a file lies: named by content and recipe, so that it never goes stale."""
    return folder / damage.key / f"{source_hash}.{damage.container}"


def write_damaged(source: Path, damage: Damage, target: Path) -> None:
    """Make one copy, unless it is there; it appears under its name only when it is complete.

    Raises:
        VideoError: if the source cannot be read, or the encoder is missing or refuses.
    """
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
        part = Path(folder) / target.name
        try:
            _transcode(source, damage, part)
        except (FFmpegError, ValueError) as error:
            raise VideoError(source, f"no damaged copy {damage.name}: {reason(error)}") from error
        part.replace(target)


def _transcode(source: Path, damage: Damage, target: Path) -> None:
    with open_file(source) as given, av.open(str(target), "w", format=damage.container) as made:
        stream = picture_stream(source, given)
        rate = Fraction(damage.fps) if damage.fps else _rate_of(stream)
        frames = _filtered(given.decode(stream), damage, rate)
        first = next(frames, None)
        if first is None:
            raise ValueError("it has no frames")
        encoder = _encoder(made, first, damage, rate)
        for frame in itertools.chain([first], frames):
            made.mux(encoder.encode(frame))
        made.mux(encoder.encode(None))


def _rate_of(stream: VideoStream) -> Fraction:
    stated = float(stream.average_rate or DEFAULT_FPS)
    return Fraction(min(max(stated, 1), MAX_FPS)).limit_denominator(1001)  # 30000/1001 stays what it is


def _encoder(made: OutputContainer, first: VideoFrame, damage: Damage, rate: Fraction) -> VideoStream:
    encoder = made.add_stream(damage.codec, rate=rate, options=dict(damage.options))
    assert isinstance(encoder, VideoStream)
    encoder.width, encoder.height, encoder.pix_fmt = first.width, first.height, damage.pixel_format
    encoder.thread_count = 1
    return encoder


def _filtered(frames: Iterator[VideoFrame], damage: Damage, rate: Fraction) -> Iterator[VideoFrame]:
    graph: Graph | None = None
    for frame in frames:
        graph = graph or _graph(frame, damage, rate)
        graph.vpush(frame)
        yield from _pull(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _pull(graph)


def _graph(first: VideoFrame, damage: Damage, rate: Fraction) -> Graph:
    graph = Graph()
    upright = _UPRIGHT[round(first.rotation / 90) % 4]
    nodes = [
        graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=first.time_base or 1 / rate
        )
    ]
    for name, arguments in (("fps", f"fps={rate}:eof_action=pass"), *upright, *damage.filters, _EVEN):
        nodes.append(graph.add(name, arguments))
    nodes.append(graph.add("format", "pix_fmts=" + ("rgb24" if damage.pixel_format == "pal8" else damage.pixel_format)))
    graph.link_nodes(*nodes)
    end = nodes[-1]
    if damage.pixel_format == "pal8":
        split, made = graph.add("split"), graph.add("palettegen", f"max_colors={_PALETTE_COLOURS}:stats_mode=single")
        used = graph.add("paletteuse", "new=1:dither=floyd_steinberg")
        end.link_to(split)
        split.link_to(used, 0, 0)
        split.link_to(made, 1, 0)
        made.link_to(used, 0, 1)
        end = used
    end.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Graph) -> Iterator[VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):  # wants more frames; has had them all
            return
