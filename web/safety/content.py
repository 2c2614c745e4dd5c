"""A file's first bytes to what it is; its name is never asked."""

from __future__ import annotations

import json

_HEADER_BYTES = 8  # of a safetensors file: length of its JSON header
_TS_PACKET = 188
FEATURES_TYPE = "application/vnd.reelkind.features"

_VIDEOS: tuple[tuple[int, bytes, str], ...] = (
    # offset, bytes, media type
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/quicktime"),
    (4, b"mdat", "video/quicktime"),
    (4, b"wide", "video/quicktime"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),  # Matroska, of which WebM is a part
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"\x00\x00\x00\x01", "video/h264"),
    (0, b"\x00\x00\x01\x67", "video/h264"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "video/x-ms-asf"),
    (0, b"GIF8", "image/gif"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (8, b"WEBP", "image/webp"),
)
_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"ID3", "an MP3 file: sound without pictures"),
    (0, b"\xff\xfb", "an MP3 file: sound without pictures"),
    (0, b"fLaC", "a FLAC file: sound without pictures"),
    (8, b"WAVE", "a WAV file: sound without pictures"),
    (0, b"#EXTM3U", "a playlist, which only names videos"),
    (0, b"<?xml", "an XML document"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
)


class NotAVideoError(Exception):
    """The contents are of another kind; ``str()`` is a sentence without the file's name."""


def media_type_of(head: bytes) -> str:
    """Media type of a video, a picture or a features file.

    Args:
        head: the file's first bytes, at least 4096 if it has so many.

    Raises:
        NotAVideoError: if it is something else.
    """
    if not head:
        raise NotAVideoError("is empty")
    for offset, magic, media_type in _VIDEOS:
        if head.startswith(magic, offset):
            return media_type
    if head[0] == 0x47 and head[_TS_PACKET : _TS_PACKET + 1] in (b"\x47", b""):
        return "video/mp2t"
    if head[4:5] == b"\x47" and head[_TS_PACKET + 8 : _TS_PACKET + 9] == b"\x47":
        return "video/mp2t"  # with time codes before the packets, as Blu-ray discs have it
    if _is_features(head):
        return FEATURES_TYPE
    raise NotAVideoError(f"is no video: it looks like {_guess(head)}")


def _is_features(head: bytes) -> bool:
    """Whether a safetensors file begins here that holds features."""
    length = int.from_bytes(head[:_HEADER_BYTES], "little")
    header = head[_HEADER_BYTES : _HEADER_BYTES + length]
    if length > len(head) - _HEADER_BYTES:
        return header.startswith(b'{"') and b"__metadata__" in header and b"format_version" in header
    try:
        metadata = json.loads(header).get("__metadata__", {})
    except (ValueError, AttributeError):
        return False
    return isinstance(metadata, dict) and {"kind", "format_version"} <= metadata.keys()


def _guess(head: bytes) -> str:
    for offset, magic, what in _OTHERS:
        if head[: offset + len(magic)].lower().startswith(magic.lower(), offset):
            return what
    try:
        head[:512].decode()
    except UnicodeDecodeError:
        return "a file of a kind unknown here"
    return "a text"
