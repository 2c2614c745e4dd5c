"""Videos a day: the arithmetic by hand, and nothing where a number is missing."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from reelkind.cli.main import main
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.export.errors import ExportError
from reelkind.export.tensorrt.capacity_plan import StageCost, measured_costs, plan_capacity
from reelkind.serving.server import TritonServer

ROOT = Path(__file__).parents[2]
PARTS = ("compute_input", "compute_infer", "compute_output")
LITE = str(ROOT / "bundles" / "lite")
STATISTICS = {
    "model_stats": [
        {  # two executions of 20 ms with one video each, one of 50 ms with ten
            "name": "backbone_lite",
            "inference_count": 12,
            "batch_stats": [
                {part: {"ns": ns} for part, ns in zip(PARTS, (2_000_000, 37_000_000, 1_000_000), strict=True)},
                {part: {"ns": ns} for part, ns in zip(PARTS, (4_000_000, 45_000_000, 1_000_000), strict=True)},
            ],
        },
        {"name": "head_lite", "inference_count": 0, "batch_stats": []},
        {"name": "classify"},
    ]
}


@pytest.fixture(scope="module")
def lite() -> bundles.Bundle:
    return bundles.load(LITE)


def test_a_slice_is_busy_for_its_share_of_the_day(lite: bundles.Bundle) -> None:
    costs = [StageCost("backbone_lite", 6.5, "x"), StageCost("head_lite", 0.5, "x"), StageCost("preprocess", 9.0, "x")]
    plan = plan_capacity([lite], costs, 20_000_000, 0.7)
    assert plan.slice_ms == 7
    assert plan.videos_per_day == 8_640_000  # 86,400 s x 0.7 / 7 ms
    assert plan.slices == 3
    assert plan.processors == pytest.approx(20_000_000 * 0.009 / 86_400)


def test_every_stage_of_the_slice_must_have_a_cost(lite: bundles.Bundle) -> None:
    with pytest.raises(ExportError, match="nobody has said what head_lite cost"):
        plan_capacity([lite], [StageCost("backbone_lite", 6.5, "x")], 1, 0.7)


def test_costs_of_strangers_are_refused(lite: bundles.Bundle) -> None:
    costs = [StageCost(f"{stage}_{name}", 1, "x") for stage in ("backbone", "head") for name in ("lite", "clip")]
    with pytest.raises(ExportError, match="called backbone_clip, head_clip"):
        plan_capacity([lite], costs, 1, 0.7)


def test_a_batch_costs_its_videos_a_part_each() -> None:
    (cost,) = measured_costs(STATISTICS, "here", ["backbone_lite", "head_lite"])
    assert (cost.stage, cost.ms) == ("backbone_lite", pytest.approx(7.5))  # 2 x 20 ms + 50 ms for 12 videos
    assert cost.source == "measured at here, 12 videos"


def test_a_server_that_has_not_worked_is_no_source() -> None:
    with pytest.raises(ExportError, match="send it some work first"):
        measured_costs(STATISTICS, "here", ["head_lite"])


def test_formula_and_sources_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    file = tmp_path / "metrics"
    file.write_text(json.dumps(STATISTICS), encoding="utf-8")
    costs = ["--costs-from", str(file), "--cost-ms", "head_lite=0.5"]
    assert main(["plan", "--bundle", LITE, "--videos-per-day", "9000000", *costs]) == 0
    shown = capsys.readouterr().out
    assert "86,400,000 ms x 0.7 / 8.00 ms = 7,560,000 on one slice" in shown
    assert "9,000,000 videos a day: 2 slices" in shown
    assert f"measured at {file}, 12 videos" in shown
    assert "stated" in shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cost-ms", "head_lite=1"], "are for --videos-per-day"),
        (["--videos-per-day", "1", "--costs-from", "nowhere.txt"], "nowhere.txt: No such file"),
        (["--videos-per-day", "1", "--costs-from", "http://127.0.0.1:9"], "refused"),
        (["--videos-per-day", "1", "--utilisation", "0"], "carries nothing"),
    ],
)
def test_useless_options_are_said(options: list[str], words: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["plan", "--bundle", LITE, *options]) == 2
    assert words in capsys.readouterr().err


def test_what_is_no_statistics_is_said() -> None:
    with pytest.raises(ExportError, match="here is no answer of /v2/models/stats: it lacks 'model_stats'"):
        measured_costs({}, "here", ["head_lite"])


@pytest.mark.triton
def test_a_real_server_counts_the_time_it_was_busy(triton_server: TritonServer) -> None:
    """By the clock: a saturated backbone is busy most of the time, never longer than its instances together."""
    frames = np.zeros((16, 224, 224, 3), np.uint8)
    before = costs_and_count(triton_server)
    with Client(triton_server.url) as client, ThreadPoolExecutor(8) as pool:
        client.classify_frames(frames)
        began = time.monotonic()
        list(pool.map(client.classify_frames, [frames] * 24))
        passed_ms = (time.monotonic() - began) * 1e3
    after = costs_and_count(triton_server)
    busy_ms = after[0] * after[1] - before[0] * before[1]
    assert after[1] - before[1] >= 25  # and what the supervisor asked
    assert 0.2 * passed_ms < busy_ms < 2.2 * passed_ms  # two instances; the first clip is not in the time


def costs_and_count(server: TritonServer) -> tuple[float, int]:
    """Milliseconds a video at the backbone, and videos."""
    with urlopen(f"{server.http_url}/v2/models/stats", timeout=30) as answer:
        statistics = json.load(answer)
    (model,) = [model for model in statistics["model_stats"] if model["name"] == "backbone_lite"]
    if not model["inference_count"]:
        return 0.0, 0
    (cost,) = measured_costs(statistics, "here", ["backbone_lite"])
    return cost.ms, model["inference_count"]
