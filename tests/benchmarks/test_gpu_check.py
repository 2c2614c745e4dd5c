"""The GPU check where there is no GPU: what it refuses, what it would do, and its parts over stand-ins."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper
from standin_tensorrt import StandinDevice, standin_tensorrt

from reelkind.benchmarks.gpu import check as gpu_check
from reelkind.benchmarks.gpu.ladder import climb_on_gpu
from reelkind.benchmarks.gpu.limits import memory_cap
from reelkind.benchmarks.gpu.memory import check_border, peak_memory
from reelkind.benchmarks.gpu.report import Report
from reelkind.benchmarks.gpu.speed import better_heads
from reelkind.core import bundle as bundles_on_disk
from reelkind.core import cuda, specs
from reelkind.core.bundle import Bundle
from reelkind.core.files.checksums import sha256_of
from reelkind.core.specs import Range
from reelkind.export.errors import ExportError
from reelkind.export.onnx_files import export_bundle, export_half
from reelkind.export.parity.half_check import any_input
from reelkind.export.pipelines.arithmetic import operations
from reelkind.export.pipelines.clips import synthetic_clips
from reelkind.export.repository.engine_files import PLAN_KEY, key_path
from reelkind.export.tensorrt.engines import build_engines, plan_engines
from reelkind.export.untrained import write_untrained_bundle
from reelkind.serving.runner.tensorrt_runtime import Engine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "lite"
    shutil.copytree(ROOT / "bundles" / "lite", folder, ignore=shutil.ignore_patterns("fp16"))
    bundle = bundles_on_disk.load(folder)
    export_half(bundle)
    return bundle


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> StandinDevice:
    """A stand-in card with its library, and engines small enough for a CPU."""
    device = StandinDevice()
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device))
    small = {"B": Range(1, 1, 1), "V": Range(1, 1, 1), "T": Range(1, 1, 2)}
    for kind in specs.PROFILES:
        monkeypatch.setitem(specs.PROFILES, kind, small)
    return device


def test_without_a_gpu_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        cuda.Device()
    except cuda.CudaError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    out = tmp_path / "gpu.json"
    assert gpu_check.main(["--json", str(out)]) == 1
    assert capsys.readouterr().err.startswith("gpu_check: no NVIDIA driver here (libcuda.so.1 is missing)")
    assert not out.exists()  # no report of what was not measured


def test_dry_run_lists_members_and_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--dry-run", "--random", "resnet50", "--cap-gb", "4.5"]) == 0
    printed = capsys.readouterr().out
    assert "resnet50 with random weights" in printed
    assert "under 4.5 GB" in printed
    assert "package onnx: here" in printed


@pytest.mark.parametrize("options", [["--runs", "0"], ["--cap-gb", "0"], ["--cap-gb", "nan"]], ids=" ".join)
def test_nonsense_is_a_usage_error(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main(options)


def test_a_step_that_fails_is_noted_and_costs_no_other(tmp_path: Path) -> None:
    report = Report(tmp_path / "a" / "gpu.json")
    assert report.attempt("one", int, "7") == 7
    assert report.attempt("two", int, "seven") is None
    stored = json.loads(report.path.read_text())
    assert [entry["what"] for entry in stored["not_run"]] == ["two"]
    assert "ValueError: invalid literal" in stored["not_run"][0]["reason"]
    assert "not run: two: ValueError" in report.table()


@pytest.mark.parametrize(
    ("content", "passed"),
    [
        ({"members": {"a": {}}, "parity": {"a": {"passed": True}}, "speed": [{}]}, True),
        ({"members": {"a": {}}, "parity": {"a": {"passed": False}}, "speed": [{}]}, False),
        ({"members": {"a": {}, "b": {}}, "parity": {"a": {"passed": True}}, "speed": [{}]}, False),
        ({"members": {"a": {}}, "parity": {"a": {"passed": True}}, "speed": []}, False),
        ({}, False),
    ],
    ids=["all", "ladder fails", "ladder missing", "nothing timed", "nothing"],
)
def test_a_check_passes_only_when_everything_was_climbed_and_timed(
    tmp_path: Path, content: dict[str, object], passed: bool
) -> None:
    report = Report(tmp_path / "gpu.json")
    report.content |= content
    assert report.passed is passed


def test_heads_go_to_whoever_is_quicker_where_both_were_timed() -> None:
    def row(graph: str, executor: str, host_ms: float, num_frames: int = 16) -> dict[str, object]:
        times = {"host_median_ms": host_ms, "median_ms": 0.5 if executor == "tensorrt" else host_ms}  # by its own clock
        return {"graph": graph, "executor": executor, "shape": [1, 1, num_frames], **times}

    rows = [
        row("head_a", "tensorrt", 2.0),
        row("head_a", "ONNX Runtime CUDA", 1.0),
        row("head_a", "tensorrt", 0.1, num_frames=1),
        row("head_b", "tensorrt", 1.0),
        row("backbone_a", "tensorrt", 1.0),
        row("backbone_a", "ONNX Runtime CUDA", 2.0),
    ]
    assert better_heads(rows) == {"head_a": "ONNX Runtime CUDA"}


def test_arithmetic_of_a_network_is_the_published_one(tmp_path: Path) -> None:
    member = write_untrained_bundle("small", "mobilenet_v2", tmp_path / "small")
    export_bundle(member)
    graph = specs.backbone_graph(member)
    found = operations(onnx.load(member.path("onnx", graph.file)), any_input(graph, 1))
    assert found == pytest.approx(2 * 300e6, rel=0.03)  # MobileNetV2 at 224: 300 M multiply-adds (arXiv:1801.04381)
    assert operations(onnx.load(member.path("onnx", graph.file)), any_input(graph, 2)) == 2 * found


def test_standin_cap_leaves_so_much_memory_and_gives_the_rest_back(device: StandinDevice) -> None:
    before = device.free_bytes()
    with memory_cap(device, 1 << 20):  # type: ignore[arg-type]
        assert device.free_bytes() == 1 << 20
    assert device.free_bytes() == before


def test_standin_memory_of_all_engines_is_counted(member: Bundle, device: StandinDevice, tmp_path: Path) -> None:
    found = peak_memory([member], device, tmp_path, "tensorrt", 0.1)  # type: ignore[arg-type]
    assert found["engines"].keys() == {"backbone_lite", "head_lite"}
    assert found["used_bytes"] >= 2 * 3 * 224 * 224


def test_standin_engine_with_another_border_than_its_config_is_named(
    member: Bundle, device: StandinDevice, tmp_path: Path
) -> None:
    (_, file) = build_engines(plan_engines([member], "fp16"), tmp_path, device)  # type: ignore[arg-type]
    engine = Engine(file.path, device)  # type: ignore[arg-type]
    check_border(file.graph, engine)
    with pytest.raises(ExportError, match=r"head_lite: the engine's outputs are \{'logits'.*config.pbtxt says"):
        check_border(replace(file.graph, outputs=file.graph.outputs[:2]), engine)


def test_standin_ladder_passes_with_good_engines(member: Bundle, device: StandinDevice, tmp_path: Path) -> None:
    clips = list(synthetic_clips(224, (1,)))[:1]
    found = climb_on_gpu(member, clips, device, tmp_path, ["tensorrt"])  # type: ignore[arg-type]
    assert found["passed"]
    assert [rung["name"] for rung in found["rungs"]] == ["ONNX FP32", "ONNX FP16", "FP16 as stored", "tensorrt"]


def test_standin_ladder_names_the_stage_of_a_wrong_engine(
    member: Bundle, device: StandinDevice, tmp_path: Path
) -> None:
    list(build_engines(plan_engines([member], "fp16"), tmp_path / "tensorrt", device))  # type: ignore[arg-type]
    plan = tmp_path / "tensorrt" / "backbone_lite.plan"
    plan.write_bytes(_with_other_weights(plan.read_bytes()))
    stored = json.loads(key_path(plan).read_text()) | {PLAN_KEY: sha256_of(plan)}  # wrong, not damaged
    key_path(plan).write_text(json.dumps(stored))
    clips = list(synthetic_clips(224, (1,)))[:1]
    found = climb_on_gpu(member, clips, device, tmp_path, ["tensorrt"])  # type: ignore[arg-type]
    assert not found["passed"]
    divergence = found["rungs"][-1]["divergence"]
    assert divergence.startswith("backbone_lite: features_lite has a relative error of ")
    # The graph is good and the engine on disk is not, so an engine built anew has nothing to name.
    assert divergence.endswith("first inside: nothing, when it gets the inputs of the reference")


def _with_other_weights(plan: bytes) -> bytes:
    data, profile = pickle.loads(plan)
    model = onnx.ModelProto.FromString(data)
    name = [node for node in model.graph.node if node.op_type == "Conv"][30].input[1]
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    return pickle.dumps((model.SerializeToString(), profile))
