"""Files made to do harm: small ones that become gigabytes or hours, and such as are no files to read."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

LARGE_PX = (8192, 8192)  # as many pixels as a frame may have
TOO_LARGE_PX = (16000, 16000)
MANY_PACKETS = 200_000
LAST_PTS_S = 10**8  # three years


def many_references(path: Path) -> None:
    """H.264 at 8K UHD that keeps sixteen frames for reference, two gigabytes of them."""
    options = {"preset": "ultrafast", "refs": "16", "x264-params": "ref=16:level=6.2:bframes=0:threads=2"}
    _black(path, "mp4", "libx264", (7680, 4320), range(20), options)


def large_pictures(path: Path) -> None:
    """Motion JPEG whose frames are as large as is allowed."""
    _black(path, "avi", "mjpeg", LARGE_PX, range(4), {}, "yuvj444p")


def large_vp9(path: Path) -> None:
    """VP9 at 8K."""
    _black(path, "webm", "libvpx-vp9", (7680, 4320), range(4), {"deadline": "realtime", "cpu-used": "8"})


def larger_packets(path: Path) -> None:
    """QuickTime whose header says 96x64 and whose packets are PNG pictures of 256 million pixels."""
    _png_packets(path, _png(*TOO_LARGE_PX))


def deep_pictures(path: Path) -> None:
    """PNG of sixteen bits a channel and four channels: half a gigabyte out of half a megabyte, sixteen times."""
    _png_packets(path, _png(*LARGE_PX, depth=16, colour=6))


def false_header(path: Path) -> None:
    """A PNG whose header promises more than any memory holds."""
    path.write_bytes(_png(2**31 - 1, 2**31 - 1, rows=1))


def late_picture(path: Path) -> None:
    """A second picture after three years."""
    _black(path, "matroska", "ffv1", (96, 64), (0, LAST_PTS_S * 25), {})


def many_packets(path: Path) -> None:
    """Two hours of tiny pictures in NUT, with no length in its header."""
    with av.open(str(path), "w", format="nut") as output:
        stream = _stream(output, "rawvideo", (16, 16), {}, "gray")
        (first,) = stream.encode(av.VideoFrame(16, 16, "gray"))
        pixels = bytes(first)
        for number in range(MANY_PACKETS):
            packet = av.Packet(pixels)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            output.mux(packet)


def wide_gif(path: Path) -> None:
    """A GIF of the largest width, with a thousand pictures of a few bytes."""
    head = b"GIF89a" + struct.pack("<HHBBB", 65535, 1024, 0x80, 0, 0) + bytes(6)
    one = b"\x21\xf9\x04\x00\x04\x00\x00\x00" + b"\x2c" + struct.pack("<HHHHB", 0, 0, 65535, 1024, 0)
    path.write_bytes(head + (one + b"\x02\x02\x44\x01\x00") * 1000 + b";")


BOMBS: dict[str, Callable[[Path], None]] = {
    make.__name__.replace("_", " "): make
    for make in (
        *(many_references, large_pictures, large_vp9, larger_packets, deep_pictures),
        *(false_header, late_picture, many_packets, wide_gif),
    )
}
"""Name -> what writes it."""


def write_special(folder: Path) -> dict[str, Path]:
    """Make what a path can be that is no video file: name -> path."""
    folder.mkdir(parents=True)
    found = {
        name: folder / name.replace(" ", "_")
        for name in (
            *("pipe", "folder", "empty file", "link to itself", "link to nothing", "link to a device", "socket"),
            *("playlist of a pipe", "manifest of a device", "concatenation of a secret", "text", "noise"),
        )
    }
    os.mkfifo(found["pipe"])
    found["folder"].mkdir()
    found["empty file"].touch()
    found["link to itself"].symlink_to(found["link to itself"])
    found["link to nothing"].symlink_to(folder / "gone")
    found["link to a device"].symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening, suppress(OSError):  # too long a path, on some machines
        listening.bind(str(found["socket"]))
    found["playlist of a pipe"].write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{found['pipe']}\n")
    found["manifest of a device"].write_text('<?xml version="1.0"?><MPD><BaseURL>/dev/zero</BaseURL></MPD>')
    found["concatenation of a secret"].write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    found["text"].write_text("no video\n" * 1000)
    found["noise"].write_bytes(np.random.default_rng(0).bytes(1 << 16))
    given = {
        "device without end": Path("/dev/zero"),
        "device without content": Path("/dev/null"),
        "memory of the process": Path("/proc/self/mem"),
        "file of the kernel": Path("/proc/self/environ"),
        "name that is too long": folder / ("x" * 300),
        "name that is no UTF-8": folder / os.fsdecode(b"\xff\xfe"),
        "name with a null byte": Path(f"{folder}/a\0b"),
        "name of an address": Path("http://192.0.2.1/a.mp4"),
    }
    return {name: path for name, path in (found | given).items() if name != "socket" or path.exists()}


def _stream(
    output: av.container.OutputContainer,
    codec: str,
    size_px: tuple[int, int],
    options: dict[str, str],
    pixel_format: str,
) -> VideoStream:
    stream = output.add_stream(codec, rate=25, options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height = size_px
    stream.pix_fmt = pixel_format
    return stream


def _black(
    path: Path,
    muxer: str,
    codec: str,
    size_px: tuple[int, int],
    times: Sequence[int],
    options: dict[str, str],
    pixel_format: str = "yuv420p",
) -> None:
    with av.open(str(path), "w", format=muxer) as output:
        stream = _stream(output, codec, size_px, options, pixel_format)
        frame = av.VideoFrame(*size_px, pixel_format)
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for pts in times:  # in 25ths of a second
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _png_packets(path: Path, content: bytes) -> None:
    """A QuickTime file of a PNG picture of 96x64, as its header says, and sixteen of ``content``."""
    with av.open(str(path), "w", format="mov") as output:
        stream = _stream(output, "png", (96, 64), {}, "rgb24")
        output.mux(stream.encode(av.VideoFrame(96, 64, "rgb24")))
        for number in range(1, 17):
            packet = av.Packet(content)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            output.mux(packet)


def _png(width: int, height: int, *, depth: int = 1, colour: int = 0, rows: int | None = None) -> bytes:
    """A black PNG; of another number of ``rows`` than its header says, if given."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    channels = {0: 1, 2: 3, 6: 4}[colour]
    row_bytes = 1 + (width * depth * channels + 7) // 8
    packed, packer = io.BytesIO(), zlib.compressobj(9)
    if rows is None:
        row = bytes(row_bytes)
        for _ in range(height):
            packed.write(packer.compress(row))
    packed.write(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed.getvalue()) + chunk(b"IEND", b"")
