"""Parts are whole, rows are there once, and the report counts them."""

from pathlib import Path

import pytest

from reelkind.bulk import parts, report, rows
from reelkind.bulk.errors import BulkError
from reelkind.core.errors import VideoError
from reelkind.core.files.whole_files import PART_SUFFIX

pa = pytest.importorskip("pyarrow", reason="the extra bulk is not installed")


def table_of(*found: rows.Row) -> "pa.Table":
    return pa.Table.from_pylist(list(found), schema=rows.schema())


def answer(uri: str, label: str | None, confidence: float) -> rows.Row:
    return {"uri": uri, "label": label, "confidence": confidence}


def test_a_row_is_written_once_and_parts_go_on_counting(tmp_path: Path) -> None:
    for batch, new in ((["a", "b"], 2), (["b", "c", "c"], 1)):
        finished = set(parts.read(tmp_path, ["uri"]).column("uri").to_pylist())
        writer = parts.Writer(tmp_path, finished)
        assert writer.add(table_of(*(answer(uri, "flat", 1) for uri in batch))) == new
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


def test_report_counts_and_escapes(tmp_path: Path) -> None:
    writer = parts.Writer(tmp_path, set())
    bad = [rows.failed(f"<b>{at}.mp4", None, VideoError("x", "no <video>")) for at in range(3)]
    writer.add(table_of(answer("a", "flat", 1.0), answer("b", "flat", 0.91), answer("c", None, 0.31), *bad))
    writer.flush()
    summary = report.summarise(tmp_path)
    assert (summary.num_rows, summary.num_failed) == (6, 3)
    assert summary.labels == {"animation": 0, "gaming": 0, "natural": 0, "flat": 2, report.NO_LABEL: 1}
    assert summary.histogram == (0, 0, 0, 1, 0, 0, 0, 0, 0, 2)
    assert [uri for uri, _, _ in summary.doubtful] == ["c", "b", "a"]
    assert summary.errors == (("VideoError", "no <video>", 3, "<b>0.mp4"),)
    assert "3  VideoError: no <video>" in report.text(summary)
    page = report.html(summary)
    assert "&lt;b&gt;0.mp4" in page
    assert "<b>" not in page


def test_report_of_nothing_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match="--out"):
        report.summarise(tmp_path / "gone")
