"""A folder, a manifest or a list on standard input to URIs, each once."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote_from_bytes

from reelkind.video.names import VIDEO_EXTENSIONS

from .errors import BulkError

STDIN = "-"


class Passed(Protocol):
    """Told of what a folder holds and is not taken."""

    links: list[str]

    def add(self, name: str) -> None:
        """Count a file."""
        ...


def read_uris(source: str, column: str, stdin: BinaryIO, passed_over: Passed | None = None) -> list[str]:
    """URIs of a job in their order, the same one twice counted once.

    Args:
        source: a folder, searched to any depth; a ``.csv``, ``.jsonl`` or ``.parquet`` file; ``STDIN``.
        column: where a manifest keeps the URIs.
        stdin: a URI a line.
        passed_over: told of other files and linked folders in a folder.

    Raises:
        BulkError: naming the source, if it cannot be read, lacks the column or names nothing.
    """
    try:
        uris = list(dict.fromkeys(uri for uri in _found(source, column, stdin, passed_over) if uri))
        "".join(uris).encode()
    except UnicodeError as error:
        raise BulkError(f"{source}: is no UTF-8 text: {error}") from error
    if not uris:
        raise BulkError(f"{'standard input' if source == STDIN else source}: names no videos")
    return uris


def _found(source: str, column: str, stdin: BinaryIO, passed_over: Passed | None) -> Iterable[str]:
    path = Path(source)
    if source == STDIN:
        return (_uri(os.fsdecode(line).rstrip("\r\n")) for line in stdin)
    if path.is_dir():
        return _videos_below(source, passed_over)
    if not path.is_file():
        raise BulkError(f"{source}: no such folder or manifest")
    readers = {".csv": _from_csv, ".jsonl": _from_jsonl, ".parquet": _from_parquet}
    if path.suffix.lower() not in readers:
        raise BulkError(f"{source}: a manifest is a .csv, .jsonl or .parquet file; a list of URIs goes to - (stdin)")
    return readers[path.suffix.lower()](path, column)


def _videos_below(folder: str, passed_over: Passed | None) -> Iterator[str]:
    def refused(error: OSError) -> None:
        raise BulkError(f"{error.filename}: cannot look into this folder: {error.strerror}") from error

    for place, folders, files in os.walk(folder, onerror=refused):
        folders.sort()
        if passed_over is not None:
            paths = (os.path.join(place, name) for name in folders)  # noqa: PTH118 (names that are no text)
            passed_over.links += filter(os.path.islink, paths)
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS:  # noqa: PTH122
                yield _uri(os.path.join(place, name))  # noqa: PTH118
            elif passed_over is not None:
                passed_over.add(name)


def _uri(path: str) -> str:
    """The path itself, or where its bytes are no text, which a table cannot hold, a ``file://`` URI of it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(os.path.abspath(path)))  # noqa: PTH100
    return path


def _from_csv(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        _check_column(path, column, reader.fieldnames or ())
        try:
            for row in reader:
                yield row[column] or ""
        except csv.Error as error:
            raise BulkError(f"{path}, after line {reader.line_num}: no CSV: {error}") from error


def _from_jsonl(path: Path, column: str) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BulkError(f"{path}, line {number}: no JSON: {error}") from error
            if not isinstance(row, dict) or not isinstance(row.get(column), str):
                raise BulkError(f"{path}, line {number}: has no text {column!r}: name another with --column")
            yield row[column]


def _from_parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_column(path, column, file.schema_arrow.names)
            for batch in file.iter_batches(columns=[column]):
                yield from (value or "" for value in batch.column(0).cast(pa.string()).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BulkError(f"{path}: no Parquet with a text column {column!r}: {error}") from error


def _check_column(path: Path, column: str, there: Iterable[str]) -> None:
    names = list(there)
    if column not in names:
        raise BulkError(f"{path}: has no column {column!r} (found: {', '.join(names)}): name another with --column")
