"""The engine runtime over a stand-in for card and library: buffers, shapes and recorded graphs, nothing about a GPU."""

from __future__ import annotations

import importlib.util
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from standin_tensorrt import StandinDevice, standin_tensorrt

from reelkind.core import cuda
from reelkind.serving.runner import tensorrt_runtime
from reelkind.serving.runner.tensorrt_runtime import Engine, EngineError

WIDTH = 3


def plan(path: Path) -> Path:
    """An "engine" of one input [B, V, T, 3] and two outputs: a copy times 2, and sums over T."""
    nodes = [
        helper.make_node("Add", ["features", "features"], ["twice"]),
        helper.make_node("ReduceSum", ["features", "axis"], ["sums"], keepdims=0),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [2])
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", "V", "T", WIDTH])]
    outputs = [
        helper.make_tensor_value_info("twice", TensorProto.FLOAT, ["B", "V", "T", WIDTH]),
        helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["B", "V", WIDTH]),
    ]
    graph = helper.make_graph(nodes, "twice_and_sums", inputs, outputs, [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    profile = {"features": ((1, 1, 1, WIDTH), (1, 1, 4, WIDTH), (4, 2, 32, WIDTH))}
    path.write_bytes(pickle.dumps((model.SerializeToString(), profile)))
    return path


@pytest.fixture
def device() -> StandinDevice:
    return StandinDevice()


@pytest.fixture
def engine(device: StandinDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device))
    return Engine(plan(tmp_path / "model.plan"), device)  # type: ignore[arg-type]


def check(engine: Engine, num_videos: int, num_frames: int, seed: int) -> None:
    shape = (num_videos, 1, num_frames, WIDTH)
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    twice, sums = engine.run({"features": array})
    np.testing.assert_array_equal(twice, 2 * array)
    np.testing.assert_allclose(sums, array.sum(axis=2), atol=1e-5)


def test_standin_ports_have_names_types_and_the_largest_shapes(engine: Engine) -> None:
    assert [(port.name, port.dtype, port.shape, port.largest) for port in (*engine.inputs, *engine.outputs)] == [
        ("features", np.float32, ("B", "V", "T", WIDTH), (4, 2, 32, WIDTH)),
        ("twice", np.float32, ("B", "V", "T", WIDTH), (4, 2, 32, WIDTH)),
        ("sums", np.float32, ("B", "V", WIDTH), (4, 2, WIDTH)),
    ]


def test_standin_changing_shapes_get_their_own_answers(engine: Engine, device: StandinDevice) -> None:
    for seed, (num_videos, num_frames) in enumerate([(1, 16), (4, 32), (1, 1), (2, 7), (1, 16)]):
        check(engine, num_videos, num_frames, seed)
    assert device.num_recorded == 0


def test_standin_repeated_shapes_are_replayed_from_a_recorded_graph(engine: Engine, device: StandinDevice) -> None:
    for seed in range(5):
        check(engine, 1, 16, seed)
    assert (device.num_recorded, device.num_launched) == (1, 3)  # plain, plain and recorded, then replayed
    check(engine, 2, 4, 5)
    check(engine, 1, 16, 6)
    check(engine, 2, 4, 7)  # the context stood at other shapes in between
    check(engine, 2, 4, 8)
    check(engine, 2, 4, 9)
    assert (device.num_recorded, device.num_launched) == (2, 5)


def test_standin_graphs_are_given_back_when_shapes_are_many(
    engine: Engine, device: StandinDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_runtime, "MAX_GRAPHS", 2)
    for num_frames in (1, 2, 3):
        for seed in range(3):
            check(engine, 1, num_frames, seed)
    assert device.num_recorded == 3
    assert len(device._graphs) == 2


def test_standin_engine_that_cannot_be_recorded_goes_on_without(
    device: StandinDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device, records=False))
    engine = Engine(plan(tmp_path / "model.plan"), device)  # type: ignore[arg-type]
    for seed in range(4):
        check(engine, 1, 16, seed)
    assert (device.num_recorded, device.num_launched) == (0, 0)


def test_standin_timing_leaves_later_answers_alone(engine: Engine) -> None:
    check(engine, 1, 4, 0)
    assert len(engine.times_ms({"features": np.ones((2, 1, 7, WIDTH), np.float32)}, 5)) == 5
    for seed in range(4):
        check(engine, 1, 4, seed)


def test_standin_closed_engine_gives_its_memory_back(
    device: StandinDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device))
    before = device.free_bytes()
    engine = Engine(plan(tmp_path / "model.plan"), device)  # type: ignore[arg-type]
    for seed in range(3):
        check(engine, 1, 4, seed)
    assert device.free_bytes() < before
    engine.close()
    engine.close()
    assert device.free_bytes() == before
    assert not device._graphs
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.run({"features": np.zeros((1, 1, 1, WIDTH), np.float32)})


def test_standin_answers_are_the_callers_own(engine: Engine) -> None:
    first = engine.run({"features": np.ones((1, 1, 2, WIDTH), np.float32)})
    engine.run({"features": np.zeros((1, 1, 2, WIDTH), np.float32)})
    assert (first[0] == 2).all()


def test_standin_shapes_beyond_the_profile_are_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"'features' is \[1, 1, 33, 3\], the engine ends at \[4, 2, 32, 3\]"):
        engine.run({"features": np.zeros((1, 1, 33, WIDTH), np.float32)})
    check(engine, 1, 16, 0)


def test_standin_damaged_plan_is_named(device: StandinDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device))
    path = tmp_path / "model.plan"
    path.write_bytes(b"no engine")
    with pytest.raises(EngineError, match=r"model\.plan is no engine of tensorrt 10\.16\.1 for Stand-in"):
        Engine(path, device)  # type: ignore[arg-type]


@pytest.fixture
def copied(runtimes: Any, device: StandinDevice, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The runner's runtimes as they lie in a model repository, their card a stand-in."""
    monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device))
    beside = runtimes._module_beside
    made = {"cuda": type("Cuda", (), {"Device": lambda: device})}
    monkeypatch.setattr(runtimes, "_module_beside", lambda name: made.get(name) or beside(name))
    return runtimes


def test_standin_runner_answers_with_an_engine(copied: Any, tmp_path: Path) -> None:
    runtime = copied.load(plan(tmp_path / "model.plan"), "tensorrt", num_threads=1, frames_per_run=0)
    array = np.random.default_rng(0).standard_normal((2, 1, 5, WIDTH)).astype(np.float32)
    first, too_large, last = runtime.run(
        [{"features": array}, {"features": np.zeros((5, 1, 6, WIDTH), np.float32)}, {"features": array[:1]}]
    )
    np.testing.assert_array_equal(first[0], 2 * array)
    np.testing.assert_array_equal(last[0], 2 * array[:1])
    assert isinstance(too_large, copied.InvalidRequestError)
    assert "'features' is [5, 1, 6, 3], the engine takes" in str(too_large)


def test_runner_without_a_driver_says_so(runtimes: Any, tmp_path: Path) -> None:
    try:
        cuda.Device()
    except cuda.CudaError:
        pass
    else:
        pytest.skip("this machine has a GPU")
    with pytest.raises(Exception, match=r"no NVIDIA driver here \(libcuda.so.1 is missing\)"):
        runtimes.load(plan(tmp_path / "model.plan"), "tensorrt", 1, 0)


def test_runner_without_the_cuda_provider_says_what_it_needs(runtimes: Any, tmp_path: Path) -> None:
    from reelkind.export.pipelines.onnx_runtime import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")
    with pytest.raises(ValueError, match="no CUDAExecutionProvider: the server's environment needs onnxruntime-gpu"):
        runtimes.load(tmp_path / "model.onnx", "onnxruntime_cuda", 1, 0)


@pytest.fixture
def runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``executors.py`` and what lies beside it, copied as in a model repository."""
    root = Path(__file__).parents[3]
    version = tmp_path / "1"
    version.mkdir()
    sources = (*(root / "serving" / "runner").glob("[et]*.py"), root / "core" / "cuda.py")
    for path in sources:
        shutil.copyfile(path, version / path.name)
    spec = importlib.util.spec_from_file_location("copied_runtimes", version / "executors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "copied_runtimes", module)
    spec.loader.exec_module(module)
    return module
