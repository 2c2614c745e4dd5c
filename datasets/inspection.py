"""Files to what a check needs to know of them, each decoded once and remembered until it changes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.core.errors import DataError, VideoError
from reelkind.video.clip import Clip

from .fingerprints import SIDE_PX, fingerprint
from .sample import PICTURE_SUFFIXES, content_hash

NUM_FRAMES = 8  # of a clip; a still has one
VERSION = 1  # part of the cache's key: raise it whenever the same file would be described otherwise
CACHE_TIMEOUT_S = 30.0  # how long another run's write is waited for

Read = Callable[[Path, int], Clip]
"""(file, number of frames) -> clip; raises ``VideoError``. Called from several threads at once."""
Embed = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB [T, S, S, 3] -> float32 [D]. Called from several threads at once."""


@dataclass(frozen=True)
class Inspection:
    """What was seen of one file.

    Attributes:
        path: the file.
        problem: why it cannot be used, one sentence; "" if it can.
        missing: whether it is not there.
        sha256: of its contents; "" if they cannot be read.
        duration_s: as the header says, else as decoding showed; 0.0 for unusable files.
        fingerprint: uint8 [T, SIDE_PX, SIDE_PX]; T = 0 for unusable files.
        features: float32 [D]; D = 0 for unusable files or if nothing was embedded.
    """

    path: Path
    problem: str = ""
    missing: bool = False
    sha256: str = ""
    duration_s: float = 0.0
    fingerprint: np.ndarray = field(default_factory=lambda: np.empty((0, SIDE_PX, SIDE_PX), np.uint8))
    features: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


def inspect(path: Path, read: Read, embed: Embed | None) -> Inspection:
    """Hash, decode, fingerprint and embed one file; whatever is wrong with it is in the answer."""
    try:
        sha256 = content_hash(path)
    except FileNotFoundError:
        return Inspection(path, "no such file", missing=True)
    except (OSError, ValueError) as error:
        return Inspection(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    try:
        clip = read(path, 1 if path.suffix.lower() in PICTURE_SUFFIXES else NUM_FRAMES)
    except VideoError as error:
        return Inspection(path, error.reason, sha256=sha256)
    features = np.empty(0, np.float32) if embed is None else embed(clip.frames).astype(np.float32)
    return Inspection(path, "", False, sha256, _duration_s(clip), fingerprint(clip.frames), features)


def _duration_s(clip: Clip) -> float:
    if clip.duration_s:
        return clip.duration_s
    # Frames are taken at the middles of equal segments: the last lies half a segment before the end.
    return float(clip.times_ms[-1]) / 1000 * 2 * len(clip.times_ms) / (2 * len(clip.times_ms) - 1)


class InspectionCache:
    """Remembers usable files in an SQLite file, by path, size, time of change and recipe.

    Args:
        path: the file; created with its folder.
        recipe: whatever else the answers depend on, e.g. the frame size and the hash of the embedding model.

    Raises:
        DataError: if the file is no cache of ours, or cannot be opened.
    """

    def __init__(self, path: Path, recipe: str) -> None:
        self._path = path
        self._recipe = f"{VERSION}:{NUM_FRAMES}:{recipe}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = self._try(lambda: sqlite3.connect(path, CACHE_TIMEOUT_S, isolation_level=None))
        self._execute(
            "CREATE TABLE IF NOT EXISTS inspections (path BLOB, recipe TEXT, size INTEGER, mtime_ns INTEGER, "
            "sha256 TEXT, duration_s REAL, fingerprint BLOB, features BLOB, PRIMARY KEY (path, recipe))"
        )

    def find(self, path: Path) -> Inspection | None:
        """What is known of a file, unless it has changed since."""
        state = _state(path)
        if state is None:
            return None
        rows = self._execute(
            "SELECT sha256, duration_s, fingerprint, features FROM inspections "
            "WHERE path = ? AND recipe = ? AND size = ? AND mtime_ns = ?",
            (os.fsencode(path.absolute()), self._recipe, *state),
        )
        if not rows:
            return None
        sha256, duration_s, pictures, features = rows[0]
        thumbnails = np.frombuffer(pictures, np.uint8).reshape(-1, SIDE_PX, SIDE_PX)
        return Inspection(path, "", False, sha256, duration_s, thumbnails, np.frombuffer(features, np.float32))

    def keep(self, seen: Inspection, state: tuple[int, int]) -> None:
        """Remember a usable file as it was in ``state`` (size, mtime_ns)."""
        values = (seen.sha256, seen.duration_s, seen.fingerprint.tobytes(), seen.features.tobytes())
        key = (os.fsencode(seen.path.absolute()), self._recipe)
        self._execute("INSERT OR REPLACE INTO inspections VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*key, *state, *values))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _execute(self, command: str, values: Sequence[Any] = ()) -> list[Any]:
        rows: list[Any] = self._try(lambda: self._database.execute(command, values).fetchall())
        return rows

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except sqlite3.Error as error:
            raise DataError(f"the cache {self._path} cannot be used ({error}): delete it or name another") from error

    def __enter__(self) -> InspectionCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def inspect_all(
    paths: Iterable[Path],
    read: Read,
    embed: Embed | None,
    cache: InspectionCache,
    num_workers: int,
    *,
    fresh: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> dict[Path, Inspection]:
    """Inspect files side by side; what is finished is in the cache at once, so that an interrupted run goes on there.

    Args:
        paths: the files.
        read: decodes.
        embed: describes pictures for the search for wrong labels; None leaves it out.
        cache: where answers are looked up and kept; files with problems are looked at again each time.
        num_workers: files looked at side by side.
        fresh: look at every file again.
        advance: called once a file.
    """
    seen: dict[Path, Inspection] = {}
    pool = ThreadPoolExecutor(num_workers)
    waiting: dict[Future[Inspection], tuple[int, int] | None] = {}

    def collect(most: int) -> None:
        while len(waiting) > most:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                state, result = waiting.pop(future), future.result()
                seen[result.path] = result
                if state is not None and not result.problem:
                    cache.keep(result, state)
                advance()

    try:
        for path in paths:
            known = None if fresh else cache.find(path)
            if known is None:
                waiting[pool.submit(inspect, path, read, embed)] = _state(path)
                collect(2 * num_workers)
            else:
                seen[path] = known
                advance()
        collect(0)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nobody waits for a long film
    return seen


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None if there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns
