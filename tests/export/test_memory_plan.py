"""The memory plan: it adds up, says what is estimated, and refuses what does not fit."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from standin_tensorrt import StandinDevice, standin_tensorrt

from reelkind.cli.main import main
from reelkind.core.bundle import Bundle
from reelkind.export.errors import ExportError
from reelkind.export.tensorrt.engines import build_engines, plan_engines
from reelkind.export.tensorrt.memory_plan import (
    PROCESS_BYTES,
    SLICES,
    MemoryPlan,
    ModelMemory,
    _peak_bytes,
    plan_memory,
)


def test_a_plan_is_the_sum_of_its_parts() -> None:
    one = ModelMemory("backbone_a", "a", 2, engine_bytes=100, context_bytes=30, buffer_bytes=5, measured=True)
    plan = MemoryPlan(PROCESS_BYTES + 240, (one, ModelMemory("head_a", "a", 1, 50, 15, 5, True)))
    assert one.total_bytes == 170
    assert plan.needed_bytes == PROCESS_BYTES + 240
    assert plan.fits
    assert plan.max_instances == (240 - 150) // 55
    assert not MemoryPlan(PROCESS_BYTES + 239, plan.models).fits


def test_a_promotion_holds_three_versions_of_the_largest_member() -> None:
    sizes = {"backbone_a": 100, "head_a": 20, "backbone_b": 110}
    models = tuple(ModelMemory(name, name[-1], 1, size, 0, 0, True) for name, size in sizes.items())
    plan = MemoryPlan(PROCESS_BYTES + 470, models)
    assert plan.promotion_bytes == PROCESS_BYTES + 3 * (100 + 20) + 110
    assert plan.promotes
    tight = MemoryPlan(PROCESS_BYTES + 469, models)
    assert (tight.fits, tight.promotes) == (True, False)


def test_peak_of_a_chain_is_its_two_largest_neighbours() -> None:
    sizes = {"a": 10, "b": 1000, "c": 500, "d": 10}
    nodes = [helper.make_node("Relu", [before], [after]) for before, after in zip("xabc", "abcd", strict=True)]
    border = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xd"]
    model = helper.make_model(helper.make_graph(nodes, "chain", border[:1], border[1:]))
    assert _peak_bytes(model, sizes) == 4 * 1500
    onnx.checker.check_model(model)


def test_the_packaged_member_fits_the_slice_by_estimate(shipped: Bundle) -> None:
    plan = plan_memory([shipped], SLICES["a100-1g.10gb"])
    backbone, head = plan.models
    assert plan.fits
    assert not backbone.measured
    # EfficientNet-Lite0: 4.65 M parameters less the classifier's 1.28 M, and the map of 1,888 pooled numbers to the
    # teacher's, as halves; its widest neighbours at 224 are 16 and 96 channels of 112 x 112, 512 times: 4 videos,
    # 4 views, 32 frames.
    assert backbone.engine_bytes == pytest.approx(2 * (3.37e6 + 1888 * 768), rel=0.05)
    assert 512 * 112 * 112 * (16 + 96) * 2 <= backbone.context_bytes <= 3 * 512 * 112 * 112 * (16 + 96) * 2
    assert backbone.buffer_bytes == 512 * (3 * 224 * 224 + 4 * shipped.head.feature_dim)
    assert head.buffer_bytes == 4 * 4 * 12 * (300 * shipped.head.feature_dim + 4 + 300 + 128 + 300 * 4 + 46)


def test_members_of_one_name_are_refused(shipped: Bundle) -> None:
    with pytest.raises(ExportError, match="different names, got lite, lite"):
        plan_memory([shipped, shipped], 1)


def test_standin_engines_give_measured_sizes(
    with_half: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = StandinDevice()
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device))
    files = list(build_engines(plan_engines([with_half], "fp16"), tmp_path, device))  # type: ignore[arg-type]
    plan = plan_memory([with_half], 10**10, engines=tmp_path)
    assert [model.engine_bytes for model in plan.models] == [file.path.stat().st_size for file in files]
    assert [model.context_bytes for model in plan.models] == [1 << 20] * 2
    out = tmp_path / "plan.json"
    command = ["plan", "--bundle", str(with_half.path()), "--engines", str(tmp_path), "--json", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.count("  measured") == 2
    report = json.loads(out.read_text())
    assert report["fits"]
    assert report["promotion_bytes"] > report["needed_bytes"]


@pytest.mark.parametrize(
    ("options", "status", "words", "promotion"),
    [
        ([], 0, "of 9.80 GB on a100-1g.10gb: fits; room for ", "three versions of it at once): works"),
        (["--memory-gb", "4"], 0, "of 4.00 GB on 4 GB: fits; room for ", "DOES NOT FIT: start the server with the new"),
        (["--memory-gb", "2", "--instances", "4"], 1, "of 2.00 GB on 2 GB: DOES NOT FIT, ", "DOES NOT FIT: start"),
    ],
    ids=["slice", "no promotion", "small"],
)
def test_the_command_says_whether_it_fits(
    shipped: Bundle, capsys: pytest.CaptureFixture[str], options: list[str], status: int, words: str, promotion: str
) -> None:
    assert main(["plan", "--bundle", str(shipped.path()), *options]) == status
    printed = capsys.readouterr().out
    assert words in printed
    assert promotion in printed
    assert printed.count("  estimated") == 2


@pytest.mark.parametrize("size", ["0", "-1", "nan", "much"])
def test_nonsense_for_memory_is_a_usage_error(size: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "--memory-gb", size])


def test_bundles_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--bundle", str(tmp_path / "née")]) == 1
    assert "no bundle in" in capsys.readouterr().err


def test_half_of_the_head_alive_at_once_is_no_less_than_its_longest_tensor(shipped: Bundle) -> None:
    head = plan_memory([shipped], 10**10).models[1]
    features = math.prod((4, 12, 300, shipped.head.feature_dim)) * np.dtype(np.float16).itemsize
    assert head.context_bytes >= features
