"""Files to the hashes they had when they were read before.

A file is taken for the one it was if device, inode, size and both times are the same, as git does with its index; the
time of the last change (``ctime``) cannot be set back by who writes a file. Of a file that was changed a moment ago
nothing is kept: another change in the same tick of the file system's clock would not show.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import time
from dataclasses import astuple, dataclass

from .source import StrPath

SUFFIX = ".source.json"
SETTLED_NS = 2_000_000_000  # the tick of the coarsest clock in use, FAT's


@dataclass(frozen=True)
class Identity:
    """What changes with a regular file's contents, without reading them."""

    device: int
    inode: int
    num_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: StrPath) -> Identity | None:
        """None if there is no such file."""
        try:
            status = os.stat(path)  # noqa: PTH116 (pathlib refuses null bytes)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def is_settled(self) -> bool:
        """Whether another change would show."""
        return max(self.modified_ns, self.changed_ns) + SETTLED_NS < time.time_ns()

    @property
    def key(self) -> str:
        """Of the place of what is known: one a file, so that another version replaces it."""
        return hashlib.sha256(f"{self.device} {self.inode}".encode()).hexdigest()

    def write(self, sha256: str) -> bytes:
        """What is kept."""
        return json.dumps({"identity": astuple(self), "sha256": sha256}).encode()

    def read(self, data: bytes) -> str | None:
        """The hash, if what was kept is of this very file."""
        try:
            kept = json.loads(data)
            found, sha256 = kept["identity"], kept["sha256"]
        except (ValueError, TypeError, KeyError):  # damaged: as good as nothing
            return None
        is_hash = isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)
        return sha256 if is_hash and found == list(astuple(self)) else None
