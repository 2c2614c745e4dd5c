"""Paths of videos to what must be known of the files: hash and size, and whether they stayed the same."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from reelkind.core.errors import VideoError
from reelkind.core.features import Source

from .transport.errors import InvalidOption

StrPath = str | os.PathLike[str]


def check_several(paths: Iterable[StrPath]) -> None:
    """Tell one path from several, which Python's types do not: a text is a row of letters.

    Raises:
        InvalidOption: if it is one.
    """
    if isinstance(paths, str | bytes | os.PathLike):
        raise InvalidOption(f"classify_many takes several paths, got {paths!r}: write [path], or call classify(path)")


def check_path(path: StrPath) -> None:
    """Take what stands for a text; file names that are no text are texts with surrogates.

    Raises:
        InvalidOption: if it is something else.
    """
    if _text(path) is None:
        way_out = ": os.fsdecode() makes a text of it" if isinstance(path, bytes) else ""
        raise InvalidOption(f"a path is a str or an os.PathLike of one, got {path!r}{way_out}")


def shown(path: object) -> str:
    """A path as a text, and anything else as Python writes it."""
    text = _text(path)
    return repr(path) if text is None else text


def source_of(path: StrPath) -> Source:
    """Read a file through once.

    Raises:
        VideoError: if it cannot be read, in the words of the decoder.
    """
    if not os.path.isfile(path):  # noqa: PTH113 (pathlib refuses null bytes)
        from reelkind.video.container import open_file

        open_file(path).close()  # says what it is instead
    try:
        return Source.of(path)
    except (OSError, ValueError) as error:
        raise VideoError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def unchanged(path: StrPath) -> Iterator[None]:
    """Hash and pictures that are read of a file meanwhile belong together.

    Raises:
        VideoError: at the end, if they may not.
    """
    before = stamp(path)
    yield
    if stamp(path) != before:
        raise VideoError(path, "changed while it was read: try again when nobody writes it any more")


def stamp(path: StrPath) -> tuple[int, ...] | None:
    """What changes with a file's contents, without reading them; None if there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116 (pathlib refuses null bytes)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _text(path: object) -> str | None:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    return text if isinstance(text, str) else None
