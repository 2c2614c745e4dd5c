"""Parts are whole, and rows are there once."""

from pathlib import Path

import pytest

from reelkind.bulk import parts, rows
from reelkind.bulk.errors import BulkError
from reelkind.core.errors import FetchError, VideoError
from reelkind.core.files.whole_files import PART_SUFFIX

pa = pytest.importorskip("pyarrow", reason="the extra bulk is not installed")


def table_of(*found: rows.Row) -> "pa.Table":
    return pa.Table.from_pylist(list(found), schema=rows.schema())


def answer(uri: str) -> rows.Row:
    return {"uri": uri, "label": "flat", "confidence": 1.0}


def test_a_row_is_written_once_and_parts_go_on_counting(tmp_path: Path) -> None:
    for batch, new in ((["a", "b"], 2), (["b", "c", "c"], 1), ([], 0)):
        finished = set(parts.read(tmp_path, ["uri"]).column("uri").to_pylist())
        writer = parts.Writer(tmp_path, finished)
        assert writer.add(table_of(*map(answer, batch))) == new
        writer.flush()
        writer.flush()  # nothing waits: no empty part
    assert [path.name for path in parts.paths(tmp_path)] == ["part-000000.parquet", "part-000001.parquet"]
    assert parts.read(tmp_path, ["uri"]).column("uri").to_pylist() == ["a", "b", "c"]


def test_a_folder_is_for_one_job_which_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / f".0123{PART_SUFFIX}"
    left.write_bytes(b"half")
    with parts.held(tmp_path):
        assert not left.exists()
        with pytest.raises(BulkError, match="another job"), parts.held(tmp_path):
            pass
    with parts.held(tmp_path):
        pass


def test_a_part_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-000000.parquet").write_bytes(b"nonsense")
    with pytest.raises(BulkError, match=r"part-000000\.parquet"):
        parts.read(tmp_path, ["uri"])


def test_rows_of_an_error_are_forgotten_and_done_again(tmp_path: Path) -> None:
    away = [rows.failed(uri, None, FetchError(uri, "away")) for uri in "bcd"]
    writer = parts.Writer(tmp_path, set())
    for found in ([answer("a"), away[0], rows.failed("x", None, VideoError("x", "no video"))], away[1:2], away[2:]):
        writer.add(table_of(*found))
        writer.flush()
    assert parts.forget(tmp_path, ["a", "b", "c", "x"], "FetchError") == 2
    assert parts.read(tmp_path, ["uri"]).column("uri").to_pylist() == ["a", "x", "d"]
    assert parts.forget(tmp_path, ["a", "b", "c", "x"], "FetchError") == 0
    again = parts.Writer(tmp_path, {"a", "x", "d"})
    assert again.add(table_of(answer("b"))) == 1
    again.flush()
    assert parts.read(tmp_path, ["uri"]).column("uri").to_pylist() == ["a", "x", "d", "b"]
