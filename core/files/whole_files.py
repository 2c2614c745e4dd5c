"""Files that nobody ever sees a part of."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

WEIGHTS_SUFFIX = ".safetensors"  # of files that nobody ever writes into: another version is another file
PART_SUFFIX = ".reelkind-part"  # of files that are being written


@contextmanager
def whole_file(path: Path, *, durable: bool = False, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, which is there under its name once the ``with`` block has ended well, and else never was.

    A link stays a link; what is no regular file, as ``/dev/stdout``, is written to as it is.

    Args:
        path: takes the place of one that is there.
        durable: whether it must outlast a crash of the machine.
        private: whether only its owner may read it.

    Raises:
        OSError: naming ``path``, if it cannot be written; what was there is still there then.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = Path(os.path.realpath(path))
    part = target.parent / f".{uuid4().hex}{PART_SUFFIX}"
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(part, flags, 0o600 if private else 0o666)
        try:
            with open(descriptor, "w+b") as file:  # noqa: PTH123 (a descriptor, no path)
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        if error.filename in (None, os.fspath(part)):  # not another file, which the block could not read
            error.filename, error.filename2 = os.fspath(path), None  # not the part, which nobody has heard of
        raise


def write_whole(path: Path, data: bytes | str, *, durable: bool = False, private: bool = False) -> None:
    """Write a file, of a text in UTF-8, whole or not at all; arguments and errors as those of ``whole_file``."""
    with whole_file(path, durable=durable, private=private) as file:
        file.write(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: object) -> None:
    """Write JSON, indented, as ``write_whole`` does."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


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
