"""What is asked of perf_analyzer, what is read from its report, and a load run with the real one."""

from pathlib import Path

import numpy as np
import pytest

from reelkind.benchmarks.load import real_inputs, serve_page
from reelkind.benchmarks.load.perf_analyzer import (
    Load,
    PerfAnalyzer,
    PerfAnalyzerError,
    arrivals,
    find_perf_analyzer,
    read_report,
)
from reelkind.benchmarks.load.real_inputs import Models
from reelkind.benchmarks.load.serve import Bench, Plan
from reelkind.serving.server import TritonServer

TABLE = """\
Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,response wait
2,1.93486,2650,1006461,1096557,1096558,1181683,1011326,1008618
"""
OUTPUT = "Request concurrency: 2\n  Client: \n    Request count: 14\n  Server: \n    Successful request count: 15\n"


def test_report_has_videos_a_second_and_milliseconds() -> None:
    found = read_report(TABLE, OUTPUT)
    assert (found.throughput, found.mean_ms, found.num_requests) == (1.93486, 1011.326, 14)
    assert found.percentiles_ms == {50: 1006.461, 90: 1096.557, 95: 1096.558, 99: 1181.683}


@pytest.mark.parametrize(
    ("table", "output"), [(TABLE.splitlines()[0], OUTPUT), (TABLE, "")], ids=["no row", "no count"]
)
def test_report_of_nothing_is_refused(table: str, output: str) -> None:
    with pytest.raises(PerfAnalyzerError, match="too short"):
        read_report(table, output)


def test_load_is_a_closed_loop_or_an_open_one() -> None:
    file = Path("intervals.txt")
    assert Load("m", 4, batch=2).arguments(file) == ["-m", "m", "-b", "2", "--concurrency-range", "4"]
    assert Load("m", rate=0.5).arguments(file)[-3:] == ["--request-intervals", "intervals.txt", "--async"]
    for wrong in ({}, {"concurrency": 1, "rate": 1.0}):
        with pytest.raises(ValueError, match="closed loop"):
            Load("m", **wrong)


@pytest.mark.parametrize(("rate", "duration_s"), [(0.5, 20.0), (8.0, 30.0), (300.0, 2.0)])
def test_arrivals_come_by_chance_and_at_the_rate_that_was_asked_for(rate: float, duration_s: float) -> None:
    found = np.array(arrivals(rate, duration_s, seed=1))
    assert len(found) == rate * duration_s
    assert found.sum() == pytest.approx(duration_s * 1e6, rel=1e-3)
    assert arrivals(rate, duration_s, seed=2) != found.tolist()
    if len(found) > 100:
        assert found.std() / found.mean() == pytest.approx(1.0, abs=0.25)  # as an exponential distribution has it


@pytest.fixture(scope="module")
def perf_analyzer() -> PerfAnalyzer:
    try:
        return find_perf_analyzer()
    except PerfAnalyzerError as error:
        pytest.skip(f"no perf_analyzer: {error}")


@pytest.mark.triton
def test_real_loads_of_a_real_server(perf_analyzer: PerfAnalyzer, triton_server: TritonServer, tmp_path: Path) -> None:
    models = Models(triton_server.url)
    rng = np.random.default_rng(0)
    inputs = models.inputs([rng.integers(256, size=(2, 224, 224, 3), dtype=np.uint8) for _ in range(2)])
    assert set(inputs) == set(models.names)  # every model is reached from frames
    names = ["classify", "head_lite"]
    files = {name: tmp_path / f"{name}.json" for name in names}
    for name in names:
        real_inputs.write(inputs[name], files[name])
    plan = Plan(concurrencies=(1, 2), batches=(1, 2), shares=(0.5,), repeats=1, window_s=0.5, min_requests=3)
    bench = Bench(perf_analyzer, triton_server.url, files, models, plan, lambda line: None)
    try:
        rows = bench.rows(names)
    finally:
        bench.close()
        models.close()
    assert [row.get("reason") for row in rows] == [None] * len(rows)
    assert len(rows) == 2 * (2 * 2 + 1 + 1)
    for row in rows:
        assert row["throughput"] > 0
        assert row["p50_ms"] <= row["p90_ms"] <= row["p95_ms"] <= row["p99_ms"]
        # Triton's own time of a request is within what the client sees; both are means over much the same requests.
        assert 0 < row["infer_ms"] < 2 * row["mean_ms"]
    ensemble = next(row for row in rows if row["model"] == "classify")
    assert list(ensemble["stages"]) == ["preprocess", "backbone_lite", "head_lite", "average_lite"]
    page = serve_page.page({"rows": rows, "tool": perf_analyzer.tool, "plan": {"repeats": 1}, "environment": {}})
    assert "not measured" not in page


@pytest.mark.triton
def test_unknown_model_is_a_reason(perf_analyzer: PerfAnalyzer, triton_server: TritonServer, tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    real_inputs.write([{"frames": np.zeros((1, 2, 8, 8, 3), np.uint8)}], file)
    with pytest.raises(PerfAnalyzerError, match=r"nonsense.*unknown model"):
        perf_analyzer.warm_up(Load("nonsense", 1), triton_server.url, 1, file)
