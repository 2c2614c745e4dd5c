"""Bytes to a file that nobody ever sees a part of."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

WEIGHTS_SUFFIX = ".safetensors"  # of files that nobody ever writes into: another version is another file
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


def place_copy(source: Path, target: Path) -> None:
    """Put a file's content under another name: weights as a second name of the same file where they can, else a copy.

    Raises:
        OSError: if ``source`` cannot be read or ``target`` not be written.
    """
    if source.suffix == WEIGHTS_SUFFIX:
        with suppress(OSError):  # another file system, or one without hard links
            target.unlink(missing_ok=True)
            os.link(source.resolve(), target)
            return
    shutil.copyfile(source, target)
