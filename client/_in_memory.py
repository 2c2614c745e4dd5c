"""A video in memory, or in an open file, to one that a decoder can read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from reelkind.core.errors import VideoError

from ._handshake import ServerInfo
from .decoding import Decoded, Decoder

Data = bytes | bytearray | memoryview | BinaryIO


def decode_data(decoder: Decoder, data: Data, info: ServerInfo, name: str) -> Decoded:
    """Decode a video that is not a file, by way of a temporary file (containers are read back and forth).

    Raises:
        VideoError: with ``name`` in the place of the temporary file.
    """
    with as_file(data) as path:
        try:
            return decoder.decode(path, num_frames=info.num_frames, size_px=info.frame_size_px)
        except VideoError as error:
            raise VideoError(name, error.reason) from None


@contextmanager
def as_file(data: Data) -> Iterator[str]:
    """Path of a temporary file with the same content."""
    with tempfile.NamedTemporaryFile(prefix="reelkind-") as file:
        if isinstance(data, bytes | bytearray | memoryview):
            file.write(data)
        else:
            shutil.copyfileobj(data, file)
        file.flush()
        yield file.name
