"""A URI to a file on this machine and the hash of its content."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from reelkind.client.source import source_of

from .errors import FetchError

_PART_BYTES = 1 << 20
_TRIES = 3
_PAUSE_S = 1.0  # before the second try; twice as long before the third
_SILENCE_S = 60.0  # of a file server, until that try has failed
_FORBIDDEN = "may not be read with the credentials of this process"
_REMOTE = ("http", "https", "s3")
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}  # troubles of this machine


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
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator or scheme == "file":
        path = os.path.join(folder, os.fsdecode(unquote_to_bytes(rest)) if separator else uri)  # noqa: PTH118
        yield Fetched(path, source_of(path).sha256)
        return
    if scheme not in _REMOTE:
        raise FetchError(uri, f"{scheme}:// is not read: give a local path, or a URI of {', '.join(_REMOTE)} or file")
    with tempfile.TemporaryDirectory(prefix="reelkind-") as place:
        target = Path(place, "video")
        yield Fetched(str(target), _download(uri, target))


def _download(uri: str, target: Path) -> str:
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_S * 2 ** (attempt - 1))
        try:
            return _copy(uri, target)
        except FileNotFoundError as error:
            raise FetchError(uri, "no such file") from error
        except PermissionError as error:
            raise FetchError(uri, _FORBIDDEN) from error
        except Exception as error:  # each file system has its own for a connection that broke
            if isinstance(error, OSError) and error.errno in _OURS:
                raise
            if getattr(error, "status", None) in (401, 403):  # aiohttp's
                raise FetchError(uri, _FORBIDDEN) from error
            problem = error
    said = " ".join(str(problem).split()) or type(problem).__name__
    raise FetchError(uri, f"cannot be fetched, tried {_TRIES} times: {said}") from problem


def _copy(uri: str, target: Path) -> str:
    """SHA-256 of what was written."""
    scheme, _, rest = uri.partition("://")
    if scheme.lower() == "s3":
        with _s3().open_input_stream(rest) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, _PART_BYTES)
    else:
        _http().get_file(uri, os.fspath(target))  # its open() takes every trouble for a file that is not there
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _http() -> Any:
    import aiohttp
    import fsspec

    patience = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)  # however large it is
    return fsspec.filesystem("http", client_kwargs={"timeout": patience})


@cache
def _s3() -> Any:
    """S3 as AWS's own variables and files say: endpoint, region, credentials."""
    from pyarrow.fs import S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""  # not read by it
    scheme, _, host = endpoint.rstrip("/").rpartition("://")
    return S3FileSystem(**({"endpoint_override": host, "scheme": scheme or "https"} if host else {}))
