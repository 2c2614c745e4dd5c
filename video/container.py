"""A path to an open container, its picture stream and how long that lasts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.packet import Packet
from av.video.stream import VideoStream

from reelkind.core.errors import VideoError

MAX_FRAME_PIXELS = 1 << 26  # 67 Mpx, twice 8K UHD: larger headers are treated as damage, not as pictures

_DEMUXERS = """
    matroska webm mov mp4 avi asf asf_o flv live_flv mpeg mpegts mpegvideo mxf nut ogg rm ivr nsv wtv gxf dv dhav
    mlv ser cine r3d av1 obu ivf h261 h263 h264 hevc vvc evc m4v vc1 vc1test dirac dnxhd cavsvideo avs2 avs3 ipu
    ingenient smjpeg mjpeg mjpeg_2000 yuv4mpegpipe gif apng jpegxl_anim swf flic bink smk roq film_cpk filmstrip thp
    usm vmd xmv anm siff nuv pva ty ifv kux lmlm4 image2 jpeg_pipe png_pipe webp_pipe bmp_pipe gif_pipe tiff_pipe
    ico jpegls_pipe j2k_pipe jpegxl_pipe qoi_pipe exr_pipe dpx_pipe dds_pipe hdr_pipe psd_pipe pcx_pipe sgi_pipe
    sunrast_pipe pam_pipe pbm_pipe pgm_pipe pgmyuv_pipe ppm_pipe pfm_pipe phm_pipe aac ac3 aiff amr caf eac3 flac
    mp3 wav w64
"""
"""FFmpeg's, of files that hold their pictures themselves (or sound, which is said). Playlists, manifests, scripts and
devices, which open other files or none, and text painted as a terminal are not among them."""

_OPTIONS = {
    "format_whitelist": ",".join(_DEMUXERS.split()),
    "protocol_whitelist": "file,crypto,data",  # whatever a file refers to, nothing is fetched
    "pattern_type": "none",  # a picture named 100%d.png is one file, not a sequence
}
_HEAD_BYTES = 64
_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]", b"[Reference]", b"# FFmpeg", b"file ")


def open_file(path: str | os.PathLike[str]) -> InputContainer:
    """Open a local file; the caller closes it.

    Raises:
        VideoError: if it is missing, no regular file, empty, unreadable, or only points at other files.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 (pathlib hides why a path cannot be looked at)
    except FileNotFoundError:
        hint = "; addresses are not read, download it first" if "://" in os.fspath(path) else ""
        raise VideoError(path, f"no such file{hint}") from None
    except (OSError, ValueError) as error:
        raise VideoError(path, f"cannot be opened: {reason(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a folder, not a video file")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(path, "is a pipe, socket or device: save the video to a file first")
    if status.st_size == 0:
        raise VideoError(path, "the file is empty (0 bytes)")
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (pathlib hides why a path cannot be looked at)
            if _is_animated_webp(file.read(_HEAD_BYTES)):
                raise VideoError(path, "animated WebP is not supported: convert it to GIF or MP4")
        # "file:" keeps names with colons from being taken for a protocol.
        container = av.open(f"file:{os.fspath(path)}", options=_OPTIONS, metadata_errors="replace")
    except (FFmpegError, ValueError, OSError) as error:
        raise VideoError(path, _why_not_open(path, error)) from error
    return container


def _why_not_open(path: str | os.PathLike[str], error: Exception) -> str:
    """FFmpeg says of damaged files what it says of forbidden ones, so the file itself is asked."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            head = file.read(_HEAD_BYTES)
    except OSError as refused:
        return "permission denied" if isinstance(refused, PermissionError) else f"cannot be opened: {reason(refused)}"
    if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(_PLAYLISTS):
        return "not a video but a playlist or manifest: name the files it lists"
    if _is_damage(error):
        return "not a readable video: damaged, cut off, or of another kind"
    return f"not a readable video: {reason(error)}"


def damage(error: Exception) -> str:
    """What to say of a file that could be opened and then not be read."""
    return "damaged or cut off" if _is_damage(error) else f"damaged or cut off: {reason(error)}"


def _is_damage(error: Exception) -> bool:
    """Whether FFmpeg's demuxers say this of damaged files, whose permissions and disk are in order."""
    kinds = InvalidDataError | PermissionError | ArgumentError | EOFError
    return isinstance(error, kinds) or getattr(error, "errno", None) == errno.EIO


def _is_animated_webp(head: bytes) -> bool:
    """By the flags of the extended header (developers.google.com/speed/webp/docs/riff_container)."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 0b10)


def picture_stream(path: str | os.PathLike[str], container: InputContainer) -> VideoStream:
    """The first stream that is a moving or still picture, and not a cover image.

    Raises:
        VideoError: if there is none, or its header cannot be true.
    """
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
    check_size(path, stream.width, stream.height)
    return stream


def check_size(path: str | os.PathLike[str], width_px: int, height_px: int) -> None:
    """Refuse what no camera makes; a header and its packets may differ.

    Raises:
        VideoError: if frames of this size are too large.
    """
    if width_px * height_px > MAX_FRAME_PIXELS:
        raise VideoError(path, f"frames of {width_px}x{height_px} exceed {MAX_FRAME_PIXELS} pixels")


def time_base(stream: VideoStream) -> Fraction:
    """Seconds per tick."""
    return stream.time_base or Fraction(1, 1000)


def frame_step(stream: VideoStream) -> int:
    """Ticks per frame at the average rate; raw streams carry no timestamps."""
    return max(1, int(1 / ((stream.average_rate or 25) * time_base(stream))))


def header_duration(container: InputContainer, stream: VideoStream) -> int | None:
    """Ticks of the stream's time base, or None where the header does not say how long the pictures last."""
    if stream.duration and stream.duration > 0:
        return stream.duration
    tick = time_base(stream)
    end: Fraction | None = None
    if container.duration and container.duration > 0 and not container.streams.audio:  # sound may outlast pictures
        end = Fraction(container.duration, av.time_base)
    if is_matroska(container):  # both its durations count from 0, not from the first frame
        stated = _seconds(stream.metadata.items())
        end = end if stated is None else stated
        end = end - (stream.start_time or 0) * tick if end is not None else None
    return max(1, int(end / tick)) if end is not None and end > 0 else None


def is_matroska(container: InputContainer) -> bool:
    """Whether the container is Matroska or WebM."""
    return "matroska" in container.format.name


def extent(path: str | os.PathLike[str], container: InputContainer, stream: VideoStream) -> tuple[int, int]:
    """First tick and number of ticks; reads through the packets where the header does not say."""
    duration = header_duration(container, stream)
    if duration is not None:
        return stream.start_time or 0, duration
    starts: list[int] = []
    end = num_packets = 0
    try:
        with open_file(path) as other:  # a second reader: raw streams cannot go back to their start
            for packet in packets_of(other, picture_stream(path, other)):
                num_packets += packet.size > 0
                if packet.pts is not None:
                    starts = [min([packet.pts, *starts])]
                    end = max(end, packet.pts + max(1, packet.duration or 0))
    except FFmpegError as error:
        raise VideoError(path, damage(error)) from error
    return (starts[0], end - starts[0]) if starts else (0, max(1, num_packets * frame_step(stream)))


def packets_of(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Packets of a stream from the present position, the last of them empty.

    Raises:
        FFmpegError: if the container cannot be read on.
    """
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:  # a packet of a stream that began after the file was opened: PyAV knows none such
            continue


def reason(error: BaseException) -> str:
    """What FFmpeg or the system says went wrong."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _seconds(tags: Iterable[tuple[str, str]]) -> Fraction | None:
    """Matroska's statistics tag, ``DURATION`` or ``DURATION-eng``: ``00:00:02.000000000``."""
    for name, value in tags:
        if name.upper().startswith("DURATION"):
            try:
                hours, minutes, seconds = value.strip().split(":")
                return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
            except ValueError:
                return None
    return None
