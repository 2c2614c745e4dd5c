"""CSV files that people edit too: rows with their line numbers, every column kept, written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reelkind.core.errors import DataError
from reelkind.core.files.whole_files import write_whole


@dataclass
class Table:
    """A CSV file in memory.

    Attributes:
        path: the file.
        columns: in the order of the file, known to us or not.
        rows: column -> text, "" where a row ends early.
        lines: line of the file on which each row ends, for messages.
    """

    path: Path
    columns: list[str]
    rows: list[dict[str, str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def where(self, row: int) -> str:
        """``file:line`` of a row, for messages."""
        return f"{self.path}:{self.lines[row]}"


def read_table(path: Path, required: Sequence[str]) -> Table:
    """Read a CSV file with a header; bytes that are no UTF-8 (names of files) survive reading and writing.

    Raises:
        DataError: if it cannot be read, lacks a required column, or a row does not fit the header.
    """
    try:
        # utf-8-sig: spreadsheets begin files with a byte order mark
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, restval="")
            table = Table(path, [name.strip() for name in reader.fieldnames or ()])
            reader.fieldnames = table.columns
            _refuse_bad_header(table, required)
            for row in reader:
                if None in row:
                    raise DataError(f"{path}:{reader.line_num} has more cells than the header: quote text with commas")
                table.rows.append(row)
                table.lines.append(reader.line_num)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num} is not CSV: {error}") from error
    return table


def _refuse_bad_header(table: Table, required: Sequence[str]) -> None:
    missing = [name for name in required if name not in table.columns]
    if missing:
        found = ", ".join(table.columns)[:200] or "nothing"
        raise DataError(
            f"{table.path} lacks the column {', '.join(missing)} (found: {found}); "
            "its first line names the columns, separated by commas"
        )
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice:
        raise DataError(f"{table.path} has two columns {twice[0]!r}: rename or delete one")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    """Replace a CSV file as a whole: whoever reads it, even after a crash, finds the old or the new one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue(), durable=True)
