"""A video in memory, or in an open file, to one that a decoder can read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from reelkind.core.errors import VideoError
from reelkind.video.decoding import Decoded, Decoder

from .answers.handshake import ServerInfo

Data = bytes | bytearray | memoryview | BinaryIO

_PART_BYTES = 1 << 20


def decode_data(decoder: Decoder, data: Data, info: ServerInfo, name: str) -> Decoded:
    """Decode a video that is not a file, by way of a temporary file (containers are read back and forth).

    Raises:
        VideoError: with ``name`` in the place of the temporary file.
    """
    with as_file(data, name) as path:
        try:
            return decoder.decode(path, num_frames=info.num_frames, size_px=info.frame_size_px)
        except VideoError as error:
            raise VideoError(name, error.reason) from None


@contextmanager
def as_file(data: Data, name: str) -> Iterator[str]:
    """Path of a temporary file with the same content.

    Raises:
        VideoError: if the data cannot be read, or there is no room for them.
    """
    with ExitStack() as stack:
        try:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reelkind-")), "video")
            with path.open("wb") as file:
                for part in _parts(data, name):
                    file.write(part)
        except OSError as error:
            folder = tempfile.tempdir or "/tmp"  # None where Python has found none that can be written
            raise VideoError(
                name,
                f"cannot be kept in a temporary file in {folder}: {error.strerror or error}: "
                "make room there, or set TMPDIR to another folder",
            ) from error
        yield str(path)


def _parts(data: Data, name: str) -> Iterator[bytes | bytearray | memoryview]:
    if isinstance(data, bytes | bytearray | memoryview):
        yield data
        return
    while True:
        try:
            part = data.read(_PART_BYTES)
        except (OSError, ValueError) as error:  # the latter of a file that is closed
            raise VideoError(name, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
        if not part:
            return
        yield part
