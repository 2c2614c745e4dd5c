"""What is kept on disk: uploads named by their SHA-256, and the sweep that bounds all of it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import uuid4

from reelkind.core.files.features_files import SUFFIX

PART_SUFFIX = ".part"
HEAD_BYTES = 4096  # of a file's beginning: enough to tell what it is
_CHUNK_BYTES = 1 << 20
_PART_AGE_S = 3600.0  # a part that nobody has written to for so long belongs to a dead process


class TooLargeError(Exception):
    """More bytes than a file may have."""


class Upload:
    """A file while it arrives: written on, hashed and bounded as it comes; whole or not at all.

    A binary file object, as far as werkzeug's parser of forms needs one.

    Args:
        folder: where it goes.
        max_bytes: at most; ``write`` raises ``TooLargeError`` beyond.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._part = folder / f"{uuid4().hex}{PART_SUFFIX}"
        self._folder, self._max_bytes = folder, max_bytes
        self._file: IO[bytes] = self._part.open("xb")
        self._digest = hashlib.sha256()
        self.num_bytes = 0
        self.head = b""

    def write(self, data: bytes) -> int:
        """Append."""
        self.num_bytes += len(data)
        if self.num_bytes > self._max_bytes:
            raise TooLargeError
        if len(self.head) < HEAD_BYTES:
            self.head += bytes(data[: HEAD_BYTES - len(self.head)])
        self._digest.update(data)
        return self._file.write(data)

    def seek(self, *_: int) -> int:
        """The parser goes to the start when it is done; there is nothing to read here."""
        return 0

    def keep(self, *, is_features: bool) -> str:
        """Put it in its place; its SHA-256."""
        self._file.close()
        sha256 = self._digest.hexdigest()
        os.replace(self._part, upload_path(self._folder, sha256, is_features=is_features))  # noqa: PTH105
        return sha256

    def close(self) -> None:
        """Drop it unless it was kept."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def upload_path(folder: Path, sha256: str, *, is_features: bool) -> Path:
    """Where an upload is; the client knows features files by their ending."""
    return folder / (sha256 + (SUFFIX if is_features else ""))


def keep_file(folder: Path, source: Path) -> str:
    """Copy a file of our own among the uploads; its SHA-256."""
    upload = Upload(folder, source.stat().st_size)
    try:
        with source.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                upload.write(chunk)
        return upload.keep(is_features=False)
    finally:
        upload.close()


def sweep(folders: Collection[Path], *, max_age_s: float, max_bytes: int, in_use: Collection[str]) -> int:
    """Remove what is too old, then the oldest until all fits; how many files.

    Args:
        folders: files at any depth.
        max_age_s: since a file was last written or, for features, used.
        max_bytes: of all folders together.
        in_use: beginnings of names that stay, whatever their age.
    """
    now, removed, total = time.time(), 0, 0
    kept = []
    for modified, size, path in sorted(_files(folders)):
        if any(path.name.startswith(name) for name in in_use if name):
            total += size
        elif now - modified > (_PART_AGE_S if path.suffix == PART_SUFFIX else max_age_s):
            removed += _remove(path)
        else:
            kept.append((size, path))
            total += size
    for size, path in kept:
        if total <= max_bytes:
            break
        removed += _remove(path)
        total -= size
    return removed


def _files(folders: Collection[Path]) -> Iterator[tuple[float, int, Path]]:
    for folder in folders:
        for path in folder.rglob("*"):
            with suppress(OSError):  # gone meanwhile
                if path.is_file():
                    status = path.stat()
                    yield status.st_mtime, status.st_size, path


def _remove(path: Path) -> int:
    try:
        path.unlink()
    except OSError:
        return 0
    return 1
