"""A URI to a file on this machine and the hash of its content."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from reelkind.client.source import source_of
from reelkind.video.fetching import Fetcher, is_remote, local_path

_FETCHER = Fetcher()  # however large a file is, and however long it takes: nobody waits for a single one


@dataclass(frozen=True)
class Fetched:
    """An input that lies here.

    Attributes:
        path: the file; a temporary one of a remote input.
        sha256: of its content, hexadecimal.
    """

    path: str
    sha256: str


@contextmanager
def fetched(uri: str, folder: str) -> Iterator[Fetched]:
    """The content of a local path, or of a ``file``, ``s3``, ``http`` or ``https`` URI.

    Args:
        uri: what to fetch.
        folder: what relative paths are relative to.

    Raises:
        VideoError: if it cannot be had; a ``FetchError`` if it is remote.
        OSError: if this machine has no room for it.
    """
    if is_remote(uri):
        with _FETCHER.file(uri) as path:
            yield Fetched(path, source_of(path).sha256)
    else:
        path = os.path.join(folder, local_path(uri))  # noqa: PTH118 (names that are no text)
        yield Fetched(path, source_of(path).sha256)
