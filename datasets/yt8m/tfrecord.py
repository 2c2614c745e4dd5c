"""TFRecord files to payloads and back, every checksum verified.

A record is a little-endian uint64 length, the masked CRC-32C of those 8 bytes, the payload, and the masked CRC-32C of
the payload (tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from reelkind.core.errors import ReelkindError
from reelkind.core.files.whole_files import whole_file

from .errors import RecordError

try:
    import google_crc32c
except ModuleNotFoundError as error:
    raise ReelkindError(f"YouTube-8M's records need {error.name}: pip install 'reelkind[yt8m]'") from error

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size
_MASK_DELTA = 0xA282EAD8  # tensorflow/core/lib/hash/crc32c.h
_GZIP_MAGIC = b"\x1f\x8b"
MAX_RECORD_BYTES = 64 << 20  # YouTube-8M's largest have 0.4 MB; a larger length is damage, not data


@dataclass(frozen=True)
class Record:
    """One payload and where its record starts in the (uncompressed) file, in bytes."""

    offset: int
    payload: bytes


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file in order, one in memory at a time; a gzip file is recognised by its content.

    Raises:
        RecordError: if the file cannot be read, is truncated, or a checksum does not match.
    """
    try:
        with path.open("rb") as raw:
            yield from _records(path, _uncompressed(raw))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RecordError(f"{path}: damaged gzip stream ({error}); fetch the file again") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from error


def write_records(path: Path, payloads: Iterable[bytes]) -> int:
    """Write payloads as records, all or no file, and return how many; gzip if the name ends in ``.gz``."""
    count = 0
    with whole_file(path) as raw, gzip.open(raw, "wb") if path.suffix == ".gz" else nullcontext(raw) as file:
        for payload in payloads:
            length = _LENGTH.pack(len(payload))
            file.write(length + _checksum(length) + payload + _checksum(payload))
            count += 1
    return count


def _uncompressed(raw: BinaryIO) -> BinaryIO:
    """The stream itself, or its gzip content. A length may begin as gzip does, so its checksum decides."""
    start = raw.read(_HEADER_BYTES)
    raw.seek(0)
    is_plain = start[_LENGTH.size :] == _checksum(start[: _LENGTH.size])
    if not is_plain and start.startswith(_GZIP_MAGIC):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    return raw


def _records(path: Path, file: BinaryIO) -> Iterator[Record]:
    offset = 0
    while header := file.read(_HEADER_BYTES):
        length_bytes, checksum = header[: _LENGTH.size], header[_LENGTH.size :]
        if len(header) < _HEADER_BYTES:
            raise _truncated(path, offset)
        (length,) = _LENGTH.unpack(length_bytes)
        if checksum != _checksum(length_bytes) or length > MAX_RECORD_BYTES:
            raise RecordError(f"{path}: no TFRecord at byte {offset} (its length is damaged); fetch the file again")
        body = file.read(length + _CHECKSUM.size)
        if len(body) < length + _CHECKSUM.size:
            raise _truncated(path, offset)
        payload = body[:length]
        if body[length:] != _checksum(payload):
            raise RecordError(f"{path}: the record at byte {offset} is corrupt (CRC-32C differs); fetch the file again")
        yield Record(offset, payload)
        offset += _HEADER_BYTES + len(body)


def _truncated(path: Path, offset: int) -> RecordError:
    return RecordError(f"{path}: ends inside the record at byte {offset}; is it still being fetched?")


def _checksum(data: bytes) -> bytes:
    """Masked CRC-32C as stored: rotated by 15 bits, plus a constant, so that checksums of checksums stay sound."""
    crc = google_crc32c.value(data)
    return _CHECKSUM.pack((((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF)
