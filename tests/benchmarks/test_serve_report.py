"""Runs to rows, rows to tables and files."""

import csv
import json
from pathlib import Path

import pytest

from reelkind.benchmarks import reports
from reelkind.benchmarks.load import serve, serve_page, stage_times
from reelkind.benchmarks.load.perf_analyzer import Load, Measured
from reelkind.benchmarks.load.stage_times import Counts

STAGES = {"queue_ms": 1.0, "input_ms": 2.0, "infer_ms": 30.0, "output_ms": 4.0}
SPENT = {"server_ms": 38.0, **STAGES, "stages": {"head": STAGES | {"videos": 4, "executions": 3}}}


def measured(throughput: float) -> Measured:
    return Measured(throughput, 1000 / throughput, {p: p / throughput for p in (50, 90, 95, 99)}, 5)


def test_row_has_medians_and_the_spread_of_its_repeats() -> None:
    row = serve.row(Load("classify", 2), [(measured(rate), SPENT) for rate in (2.0, 8.0, 4.0)], is_ensemble=True)
    assert (row["model"], row["concurrency"], row["requests"]) == ("classify", 2, 15)
    assert (row["throughput"], row["throughput_low"], row["throughput_high"]) == (4.0, 2.0, 8.0)
    assert (row["p50_ms"], row["p99_ms"], row["queue_ms"], row["infer_ms"]) == (12.5, 24.75, 1.0, 30.0)
    assert len(row["repeats"]) == 3


def test_row_that_could_not_be_run_says_why() -> None:
    row = serve.row(Load("classify", rate=3.0), [], is_ensemble=True, failure="no such model")
    assert (row["rate"], row["reason"]) == (3.0, "no such model")
    assert "throughput" not in row


def test_times_are_shared_out_among_the_requests_of_the_load_alone() -> None:
    before = {"a": Counts(10, 10, 10, 10**9, dict.fromkeys(stage_times.STAGES, 5 * 10**8))}
    after = {
        "e": Counts(4, 4, 4, 80 * 10**6, dict.fromkeys(stage_times.STAGES, 0)),
        "a": Counts(14, 14, 12, 10**9 + 4 * 10**6, dict.fromkeys(stage_times.STAGES, 5 * 10**8 + 4 * 10**6)),
        "b": Counts(9, 9, 9, 9, {"queue": 8 * 10**6}),
    }
    found = stage_times.between(before, after, "e", ["a", "b"])
    assert (found["server_ms"], found["queue_ms"], found["infer_ms"]) == (20.0, 3.0, 1.0)
    assert (found["stages"]["a"]["videos"], found["stages"]["a"]["executions"]) == (4, 2)
    assert stage_times.between(after, after, "e", ["a"]) == {}


@pytest.fixture
def report() -> dict[str, object]:
    rows = [
        serve.row(Load("classify", number, shared_memory=way), [(measured(4.0 * number), SPENT)], is_ensemble=True)
        for number in (1, 2)
        for way in (False, True)
    ]
    rows.append(serve.row(Load("head", 1), [], is_ensemble=False, failure="it | broke"))
    rows.append(serve.row(Load("classify", rate=2.0), [(measured(2.0), SPENT)], True) | {"of_capacity": 0.5})
    return {"tool": "perf_analyzer 2.51.0", "environment": {"cores": 2}, "plan": {"repeats": 1}, "rows": rows}


def test_report_is_written_as_json_csv_and_page_with_plots(report: dict[str, object], tmp_path: Path) -> None:
    files = reports.write(tmp_path / "new" / "serve.json", report, serve_page.page(report), serve_page.PLOTS)
    assert json.loads(files[0].read_text()) == report
    rows = list(csv.DictReader(files[1].read_text().splitlines()))
    assert [row["throughput"] for row in rows] == ["4.0", "4.0", "8.0", "8.0", "", "2.0"]
    page = files[2].read_text()
    assert "not measured: it / broke" in page
    assert "| `classify` | 2 | 0.5 | 2 (2 .. 2)" in page
    assert "![latency](serve_latency.png)" in page
    assert [file.name for file in files[3:]] == ["serve_latency.png", "serve_stages.png", "serve_scaling.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[3:])
