"""Features of files seen before, in a folder of features files named after what they were made of."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reelkind.core.features import Features, FeaturesError, Recipe, Source
from reelkind.core.files import features_files as files
from reelkind.core.files.user_cache import user_cache
from reelkind.core.files.whole_files import PART_SUFFIX, write_whole

from . import known_files
from .known_files import Identity
from .source import StrPath, source_of
from .transport.errors import InvalidOption

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 30  # some eight thousand clips of ``lite``
SWEEP_SHARE = 64  # the folder is measured again after each 1/64 of its limit that was written


@dataclass(frozen=True)
class CacheInfo:
    """What a cache holds.

    Attributes:
        folder: where.
        num_entries: features files.
        num_bytes: their size.
        max_bytes: its limit.
    """

    folder: Path
    num_entries: int
    num_bytes: int
    max_bytes: int


class FeatureCache:
    """Makes the second classification of a file nearly free: its features are read, not computed.

    Entries are found by the contents of the video, never by its name, and by everything else that features depend on;
    damaged ones are dropped. A file is read for its hash once, and again when its size, inode or times have changed.
    Any number of processes and threads may share a folder. A cache that cannot be read or written is as good as none:
    that is logged once, and the work goes on.

    Args:
        folder: made if it is not there; by default the user's cache folder.
        max_bytes: what is kept, least recently used features going first; each process that writes may exceed it by a
            64th.
        verify: read every file for its hash each time; for file systems whose times cannot be trusted.

    Raises:
        InvalidOption: if ``max_bytes`` is below 0.
        NoHomeError: if no folder is named and the user has no home.
    """

    def __init__(self, folder: StrPath | None = None, *, max_bytes: int = MAX_BYTES, verify: bool = False) -> None:
        if max_bytes < 0:
            raise InvalidOption(f"max_bytes must be at least 0, got {max_bytes}")
        self.folder = user_cache("features") if folder is None else Path(folder)
        self.max_bytes = max_bytes
        self._verify = verify
        self._unmeasured = max_bytes  # bytes written since the folder was measured; the first write measures
        self._lock = threading.Lock()
        self._complained = False

    def source_of(self, path: StrPath) -> Source:
        """Name, hash and size of a file.

        Raises:
            VideoError: if it cannot be read.
        """
        before = None if self._verify else Identity.of(path)
        if before is None:
            return source_of(path)
        is_settled = before.is_settled  # now: a change while the file is being read must show in its times
        kept = self._place(before.key, known_files.SUFFIX)
        sha256 = before.read(self._read(kept) or b"")
        if sha256 is not None:
            return Source.known(path, sha256, before.num_bytes)
        source = source_of(path)
        if is_settled and Identity.of(path) == before:
            self._write(kept, before.write(source.sha256))
        return source

    def get(self, source: Source, recipe: Recipe) -> Features | None:
        """The features of a video, or None if they are not there; an entry that is used is kept longer."""
        path = self._path(source, recipe)
        data = self._read(path)
        if data is None:
            return None
        try:
            found = files.from_bytes(data)
        except FeaturesError as error:
            logger.warning("feature cache: dropped an entry: %s: %s", path, error)
            self._remove(path)
            return None
        return found if (found.source.sha256, found.recipe) == (source.sha256, recipe) else None

    def put(self, features: Features) -> None:
        """Keep the features of a video."""
        data = files.to_bytes(features)
        if len(data) > self.max_bytes:
            logger.info("feature cache: %s does not fit: %d bytes", features.source.name, len(data))
            return
        self._write(self._path(features.source, features.recipe), data)

    def info(self) -> CacheInfo:
        """What it holds now."""
        entries = self._entries()
        num_entries = sum(_is_features(path) for _, _, path in entries)
        return CacheInfo(self.folder, num_entries, sum(size for _, size, _ in entries), self.max_bytes)

    def clear(self) -> int:
        """Remove everything kept; return how many features files were removed. Other files in the folder stay."""
        return sum([self._remove(path) and _is_features(path) for _, _, path in self._entries()])

    def _read(self, path: Path) -> bytes | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain("read", path, error)
            return None
        with suppress(OSError):  # who may read but not write still may read
            os.utime(path)
        return data

    def _write(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data)
        except OSError as error:
            self._complain("write", path, error)
            return
        with self._lock:
            self._unmeasured += len(data)
            if self._unmeasured * SWEEP_SHARE >= self.max_bytes:
                self._unmeasured = 0
                self._sweep()

    def _path(self, source: Source, recipe: Recipe) -> Path:
        made_of = {"video": source.sha256, "format_version": files.FORMAT_VERSION, **recipe.describe()}
        key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
        return self._place(key, files.SUFFIX)

    def _place(self, key: str, suffix: str) -> Path:
        return self.folder / key[:2] / (key + suffix)

    def _entries(self) -> list[tuple[float, int, Path]]:
        """(when last used, bytes, path) of each, longest ago first; parts that a dead writer left count as well."""
        found = []
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            try:
                status = path.stat()
            except OSError:  # another process was quicker
                continue
            if path.name.endswith((files.SUFFIX, known_files.SUFFIX, PART_SUFFIX)):
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)

    def _sweep(self) -> None:
        entries = self._entries()
        excess = sum(size for _, size, _ in entries) - self.max_bytes
        for _, size, path in entries:
            if excess <= 0:
                return
            self._remove(path)
            excess -= size

    def _remove(self, path: Path) -> bool:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._complain("remove", path, error)
            return False
        return True

    def _complain(self, what: str, path: Path, error: OSError) -> None:
        """Say once what is wrong with the folder: it is likely to be wrong for every entry."""
        level = logging.DEBUG if self._complained else logging.WARNING
        self._complained = True
        logger.log(level, "feature cache: cannot %s %s: %s", what, path, error.strerror)


def _is_features(path: Path) -> bool:
    return path.name.endswith(files.SUFFIX)
