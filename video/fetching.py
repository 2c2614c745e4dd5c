"""A URL to a file on this machine, for as long as it is looked at."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from reelkind.core.errors import FetchError

_NEEDS = {"http": ("urls", "fsspec", "aiohttp"), "https": ("urls", "fsspec", "aiohttp"), "s3": ("s3", "pyarrow")}
_LOCAL = "file"
_PART_BYTES = 1 << 20
_TRIES = 3
_PAUSE_S = 1.0  # before the second try; twice as long before the third
_SILENCE_S = 60.0  # of a file server, until that try has failed
_WAKE_UP_S = 0.25
_FORBIDDEN = "may not be read with the credentials of this process"
_OURS = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}  # troubles of this machine
_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_NAME_LENGTH = 60  # of at most four bytes each, where file systems take 255

Progress = Callable[[int], None]
"""Called with the bytes that are there; may raise, which ends the fetching."""


def scheme_of(text: str) -> str:
    """``"https"`` of ``https://host/a.mp4``; empty for a path.

    >>> scheme_of("films/a.mp4")
    ''
    """
    scheme, separator, _ = text.partition("://")
    return scheme.lower() if separator and scheme.isalnum() else ""


def is_remote(text: str) -> bool:
    """Whether something is a URL of another place than this machine's own files, fetched or not."""
    return scheme_of(text) not in ("", _LOCAL)


def local_path(text: str) -> str:
    """The path that a ``file://`` URI stands for; a path stands for itself."""
    if scheme_of(text) != _LOCAL:
        return text
    return os.fsdecode(unquote_to_bytes(text.partition("://")[2]))


def file_name(url: str) -> str:
    """What a file from a URL is called here: the end of its path, without what would not be a name.

    >>> file_name("https://host/films/my%20film.mp4?token=1")
    'my film.mp4'
    """
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub(r"[^\w.\-() ]", "_", name).lstrip(".")[-_NAME_LENGTH:] or "video"


def why_never(url: str) -> str | None:
    """Why URLs like this one are not fetched, with the way out; None if they are."""
    scheme = scheme_of(url)
    if scheme not in _NEEDS:
        return f"{scheme}:// is not read: give a local path, or a URL of {', '.join(_NEEDS)} or {_LOCAL}"
    extra, *modules = _NEEDS[scheme]
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        return f"{scheme}:// needs {' and '.join(missing)}: pip install 'reelkind[{extra}]', or download the file first"
    return None


class Fetcher:
    """Fetches files until it is closed; several threads may share it.

    Args:
        max_bytes: a larger file is refused; None for any size.
        timeout_s: in all, for one file; None for as long as its server goes on sending.
    """

    def __init__(self, max_bytes: int | None = None, timeout_s: float | None = None) -> None:
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._closed = threading.Event()

    @contextmanager
    def file(self, url: str) -> Iterator[str]:
        """The path of what a URL names, in a folder that is removed after the ``with`` block.

        Raises:
            FetchError: naming the URL, if it cannot be had, or is a web page.
            OSError: if this machine has no room for it.
        """
        refusal = why_never(url)
        if refusal is not None:
            raise FetchError(url, refusal)
        with tempfile.TemporaryDirectory(prefix="reelkind-") as folder:
            target = Path(folder, file_name(url))
            self._download(url, target)
            with target.open("rb") as file:
                if _PAGE.match(file.read(_PART_BYTES)):
                    raise FetchError(url, "is a web page, not a video: give the address of the video file itself")
            yield os.fspath(target)

    def close(self) -> None:
        """End what is under way."""
        self._closed.set()

    def _download(self, url: str, target: Path) -> None:
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s

        def check(num_bytes: int = 0) -> None:
            if self._closed.is_set():
                raise FetchError(url, "not fetched: interrupted")
            if deadline is not None and time.monotonic() > deadline:
                raise FetchError(url, f"not fetched within {self._timeout_s:g} s")
            if self._max_bytes is not None and num_bytes > self._max_bytes:
                raise FetchError(url, f"larger than the {self._max_bytes / 1e6:g} MB that are fetched")

        copy = _copy_s3 if scheme_of(url) == "s3" else _copy_http
        for attempt in range(_TRIES):
            if attempt:
                self._closed.wait(_PAUSE_S * 2 ** (attempt - 1))
            try:
                check()
                return copy(url, target, check)
            except FetchError:
                raise
            except FileNotFoundError as error:
                raise FetchError(url, "no such file") from error
            except PermissionError as error:
                raise FetchError(url, _FORBIDDEN) from error
            except Exception as error:  # each file system has its own for a connection that broke
                if isinstance(error, OSError) and error.errno in _OURS:
                    raise
                if getattr(error, "status", None) in (401, 403):  # aiohttp's
                    raise FetchError(url, _FORBIDDEN) from error
                problem = error
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise FetchError(url, f"cannot be fetched, tried {_TRIES} times: {said}") from problem


def _copy_http(url: str, target: Path, check: Progress) -> None:
    from fsspec.callbacks import Callback

    files = _http()
    watch = Callback(hooks={"check": lambda size, value, **_: check(max(value, size or 0))})
    work = files._get_file(url, os.fspath(target), callback=watch)  # its open() takes every trouble for a missing file
    future = asyncio.run_coroutine_threadsafe(work, files.loop)
    try:
        while not wait([future], _WAKE_UP_S).done:
            check(0)
    except BaseException:
        future.cancel()
        raise
    future.result()


def _copy_s3(url: str, target: Path, check: Progress) -> None:
    with _s3().open_input_stream(url.partition("://")[2]) as source, target.open("wb") as file:
        while part := source.read(_PART_BYTES):
            file.write(part)
            check(file.tell())


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
