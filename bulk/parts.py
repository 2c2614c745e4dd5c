"""Finished rows, in Parquet parts that are there whole or not at all."""

from __future__ import annotations

import fcntl
import io
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.core.files.whole_files import PART_SUFFIX, write_whole

from .errors import BulkError
from .rows import schema

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_PER_PART = 4096
SECONDS_PER_PART = 20.0  # what a driver that is killed has lost at most, and will do again
_LOCK_NAME = ".reelkind-bulk.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only job that writes into a folder, which is made if need be; what a killed one left half is removed.

    Raises:
        BulkError: if another job has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Path(folder, _LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BulkError(f"{folder}: another job is writing there: wait for it, or name another --out") from None
        for stale in folder.glob(f".*{PART_SUFFIX}"):
            stale.unlink()
        yield


def paths(folder: Path) -> list[Path]:
    """All parts of a table, in order.

    Raises:
        BulkError: if there is no such folder.
    """
    if not folder.is_dir():
        raise BulkError(f"{folder}: no such folder: `reelkind bulk INPUT --out {folder}` makes it")
    return sorted(folder.glob("part-*.parquet"))


def read(folder: Path, columns: list[str]) -> pa.Table:
    """Some columns of all finished rows.

    Raises:
        BulkError: if a part is none of ours.
    """
    import pyarrow as pa

    empty = pa.schema([schema().field(name) for name in columns]).empty_table()
    return pa.concat_tables([empty, *(_read(path, columns) for path in paths(folder))])


def forget(folder: Path, uris: Collection[str], error_class: str) -> int:
    """Take rows of an error out of their parts, so that a job does these inputs again; how many rows they were.

    Raises:
        BulkError: if a part is none of ours.
        OSError: if a part cannot be written anew; it is as it was then.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, num_forgotten = pa.array(uris, pa.string()), 0
    for path in paths(folder):
        table = _read(path, None)
        has_error = pc.fill_null(pc.equal(table.column("error_class"), error_class), False)
        kept = table.filter(pc.invert(pc.and_(has_error, pc.is_in(table.column("uri"), wanted))))
        num_forgotten += table.num_rows - kept.num_rows
        if not kept.num_rows:
            path.unlink()
        elif kept.num_rows < table.num_rows:
            _write(path, kept)
    return num_forgotten


class Writer:
    """Collects rows, each URI once, and writes a part when there are enough or enough time has gone by.

    Attributes:
        folder: held by this job.
        finished: URIs that have their row, the rows that wait among them.
    """

    def __init__(self, folder: Path, finished: set[str]) -> None:
        self.folder = folder
        self.finished = finished
        self._waiting: list[pa.Table] = []
        self._written = time.monotonic()
        last = paths(folder)[-1:]
        self._next = int(last[0].stem.removeprefix("part-")) + 1 if last else 0

    def add(self, table: pa.Table) -> int:
        """Take rows with the columns of ``rows.schema``; how many of them were new."""
        import pyarrow as pa

        new = []
        for uri in table.column("uri").to_pylist():
            new.append(uri not in self.finished)
            self.finished.add(uri)
        self._waiting.append(table.filter(pa.array(new, pa.bool_())))
        late = time.monotonic() - self._written > SECONDS_PER_PART
        if late or sum(each.num_rows for each in self._waiting) >= ROWS_PER_PART:
            self.flush()
        return sum(new)

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: if it cannot be written.
        """
        import pyarrow as pa

        if any(each.num_rows for each in self._waiting):
            _write(self.folder / f"part-{self._next:06d}.parquet", pa.concat_tables(self._waiting))
            self._next += 1
        self._waiting = []
        self._written = time.monotonic()


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_whole(path, buffer.getvalue())


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, partitioning=None)
    except pa.ArrowInvalid as error:
        raise BulkError(f"{path}: no part of this table ({error}): remove it, and run the job again") from error
