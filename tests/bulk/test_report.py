"""What a report says of a table, and shows of the videos in it."""

from pathlib import Path

import pytest

from reelkind import samples
from reelkind.bulk import parts, report, rows
from reelkind.bulk.contact_sheet import Strip, strips
from reelkind.bulk.errors import BulkError
from reelkind.cli.main import main
from reelkind.client import InlineDecoder
from reelkind.core.errors import VideoError

pa = pytest.importorskip("pyarrow", reason="the extra bulk is not installed")

SAMPLE = str(Path(samples.__file__).with_name("flat_slides.mp4"))


def write_table(folder: Path, *found: rows.Row) -> None:
    writer = parts.Writer(folder, set())
    writer.add(pa.Table.from_pylist(list(found), schema=rows.schema()))
    writer.flush()


def answer(uri: str, label: str | None, confidence: float, error: str | None = None) -> rows.Row:
    return {"uri": uri, "label": label, "confidence": confidence, "error_class": error and "VideoError", "error": error}


def test_report_counts_and_escapes(tmp_path: Path) -> None:
    bad = [rows.failed(f"<b>{at}.mp4", None, VideoError("x", "no <video>")) for at in range(3)]
    good = answer("a", "flat", 1.0), answer("b", "flat", 0.91), answer("c", None, 0.31)
    write_table(tmp_path, *good, answer("d", "gaming", 0.95, "its timeline is cut"), *bad)
    summary = report.summarise(tmp_path)
    assert (summary.num_rows, summary.num_failed) == (7, 4)
    assert summary.labels == {"animation": 0, "gaming": 1, "natural": 0, "flat": 2, report.NO_LABEL: 1}
    assert summary.histogram == (0, 0, 0, 1, 0, 0, 0, 0, 0, 3)
    assert [uri for uri, _, _ in summary.doubtful] == ["c", "b", "d", "a"]
    assert summary.errors[0] == ("VideoError", "no <video>", 3, "<b>0.mp4")
    assert "3  VideoError: no <video>" in report.text(summary)
    page = report.html(summary, {uri: Strip(None, "<i>") for uri in "abcd"})
    assert "&lt;b&gt;0.mp4" in page
    assert "<b>" not in page
    assert "<i>" not in page


def test_strips_show_what_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    found = strips([SAMPLE, "bad.mp4"], str(tmp_path), InlineDecoder())
    assert found[SAMPLE].jpeg_uri.startswith("data:image/jpeg;base64,/9j/")
    assert found["bad.mp4"].jpeg_uri is None
    assert "video" in found["bad.mp4"].problem


def test_command_prints_and_writes_a_page_with_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, answer(SAMPLE, "flat", 0.4), rows.failed("gone.mp4", None, VideoError("x", "no such file")))
    assert main(["bulk", "report", str(tmp_path), "--jobs", "1"]) == 0
    assert "2 rows, 1 of them with an error" in capsys.readouterr().out
    page = (tmp_path / report.REPORT_NAME).read_text()
    assert page.count("data:image/jpeg") == 1
    assert "no such file" in page


def test_report_of_nothing_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BulkError, match="--out"):
        report.summarise(tmp_path / "gone")
