"""Answers that cost a request, one JSON object a line: what was written survives any death of the process."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import WorkspaceError


class Journal:
    """An append-only file of entries, each on disk before `append` returns.

    Attributes:
        entries: what the file holds, by the entries' ``id``; the last entry of an id counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = read_journal(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, **entry: Any) -> None:
        """Write an entry, which has an ``id``, through to the disk."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.entries[entry["id"]] = entry

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The journal, made if it is missing, for this process alone; a line cut short by a kill is removed.

    Raises:
        WorkspaceError: if another process has it open, or a line is damaged.
    """
    with path.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WorkspaceError(f"{path} is in use: another `reelkind dataset yt8m` works on this folder") from None
        _cut_torn_line(path)
        journal = Journal(path)
        try:
            yield journal
        finally:
            journal.close()


def read_journal(path: Path) -> dict[str, dict[str, Any]]:
    """Entries by id without opening the journal for writing; a line still being written is passed over.

    Raises:
        WorkspaceError: if a line is damaged.
    """
    entries: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return entries
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), str):
            raise WorkspaceError(f"{path}, line {number} is damaged: delete the line, and its video is asked for again")
        entries[entry["id"]] = dict(entry)
    return entries


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
