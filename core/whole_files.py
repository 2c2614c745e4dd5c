"""Bytes to a file that nobody ever sees a part of."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

PART_SUFFIX = ".reelkind-part"  # of files that are being written


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, in the place of one that is there.

    Raises:
        OSError: naming ``path``, if it cannot be written; what was there is still there then.
    """
    part = path.parent / f".{uuid4().hex}{PART_SUFFIX}"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 (a descriptor, no path)
                file.write(data)
            os.replace(part, path)  # noqa: PTH105
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None  # not the part, which nobody has heard of
        raise
