"""The runner outside of Triton, with a stand-in for the module that Triton gives it; the real one: test_server.py."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reelkind.core import specs
from reelkind.core.files import checksums
from reelkind.serving.runner import numpy_guard

from .. import tiny_repository

INVALID_ARG, INTERNAL, CANCELLED = "INVALID_ARG", "INTERNAL", "CANCELLED"


@dataclass
class Tensor:
    label: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class Error:
    message: str
    code: str


@dataclass
class Response:
    tensors: list[Tensor] = field(default_factory=list)
    error: Error | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        return next(tensor.array for tensor in self.tensors if tensor.label == name)


@dataclass
class Request:
    feeds: dict[str, np.ndarray]
    outputs: tuple[str, ...] = ("features", "probabilities", "attention", "embedding", "halves")
    cancelled: bool = False

    def is_cancelled(self) -> bool:
        return self.cancelled

    def requested_output_names(self) -> tuple[str, ...]:
        return self.outputs


class ModelError(Exception):
    pass


@pytest.fixture
def logged() -> list[str]:
    return []


@pytest.fixture
def runner(monkeypatch, logged) -> ModuleType:
    backend: Any = ModuleType("triton_python_backend_utils")
    backend.Tensor, backend.InferenceResponse, backend.TritonModelException = Tensor, Response, ModelError
    backend.TritonError = type("TritonError", (Error,), {name: name for name in (INVALID_ARG, INTERNAL, CANCELLED)})
    backend.Logger = type("Logger", (), {"log_error": staticmethod(logged.append)})
    backend.get_input_tensor_by_name = lambda request, name: (
        Tensor(name, request.feeds[name]) if name in request.feeds else None
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    monkeypatch.syspath_prepend(tiny_repository.RUNNER.parent)  # as Triton does with a model's folder
    monkeypatch.setattr(numpy_guard, "install", lambda: None)  # this process is not Triton's
    monkeypatch.setitem(sys.modules, "numpy_guard", numpy_guard)
    monkeypatch.setitem(sys.modules, "checksums", checksums)
    spec = importlib.util.spec_from_file_location("runner_under_test", tiny_repository.RUNNER)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "runner_under_test", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def load(runner, tmp_path):
    def load(graph: onnx.ModelProto | bytes, **parameters: str):
        version = tmp_path / "m" / "1"
        version.mkdir(parents=True)
        data = graph if isinstance(graph, bytes) else graph.SerializeToString()
        (version / "model.onnx").write_bytes(data)
        config = {"parameters": {name: {"string_value": value} for name, value in parameters.items()}}
        model = runner.TritonPythonModel()
        model.initialize(
            {
                "model_config": json.dumps(config),
                "model_name": "m",
                "model_repository": str(tmp_path / "m"),
                "model_version": "1",
            }
        )
        return model

    return load


def frames(num_videos: int, num_frames: int, size: int = 8, seed: int = 0) -> np.ndarray:
    shape = (num_videos, num_frames, size, size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def mean_colours(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.float64).mean(axis=(2, 3)) / 255)[:, None]  # [B, 1, T, 3]


def test_limit_on_frames_is_the_contracts(runner):
    assert runner.executors.MAX_FRAMES == specs.MAX_FRAMES


def test_equal_shapes_run_once_and_answers_keep_their_order(load, monkeypatch):
    model = load(tiny_repository.pixels_graph())
    runs = []
    executor = model._runtime._executor
    run = executor.run
    monkeypatch.setattr(executor, "run", lambda feeds: runs.append(feeds["frames"].shape) or run(feeds))
    given = [frames(2, 4, seed=0), frames(1, 5, seed=1), frames(1, 4, seed=2), frames(1, 4, size=9, seed=3)]
    answers = model.execute([Request({"frames": array}) for array in given])
    assert sorted(runs) == [(1, 4, 9, 9, 3), (1, 5, 8, 8, 3), (3, 4, 8, 8, 3)]
    for array, answer in zip(given, answers, strict=True):
        np.testing.assert_allclose(answer["features"], mean_colours(array), atol=1e-6)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        pytest.param(frames(1, 1).astype(np.float32), "is float32", id="dtype"),
        pytest.param(np.zeros((1, 4, 8, 3), np.uint8), r"required is uint8\[B, T, H, W, 3\]", id="rank"),
        pytest.param(np.zeros((1, 4, 8, 8, 4), np.uint8), r"is uint8\[1, 4, 8, 8, 4\]", id="channels"),
        pytest.param(np.zeros((1, 0, 8, 8, 3), np.uint8), "no axis empty", id="no frames"),
        pytest.param(np.zeros((1, 301, 1, 1, 3), np.uint8), "has 301 frames, at most 300", id="too many frames"),
    ],
)
def test_one_wrong_request_spoils_no_other(load, array, words):
    model = load(tiny_repository.pixels_graph())
    good = frames(1, 4)
    first, wrong, last = model.execute([Request({"frames": part}) for part in (good, array, good)])
    assert wrong.error.code == INVALID_ARG
    assert re.search(words, wrong.error.message)
    for answer in (first, last):
        np.testing.assert_allclose(answer["features"], mean_colours(good), atol=1e-6)


def test_missing_and_unequal_inputs_are_named(load):
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", "T"]) for name in ("a", "b")]
    outputs = [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["B", "T"])]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "sum", inputs, outputs)
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    two, three, one_frame = (np.zeros(shape, np.float32) for shape in ((2, 2), (3, 2), (2, 1)))
    given = [{"a": two}, {"a": two, "b": three}, {"a": two, "b": one_frame}]  # the last would be spread over the other
    missing, unequal, spread = (answer.error.message for answer in model.execute([Request(feeds) for feeds in given]))
    assert missing == "m: tensor 'b' is missing"
    assert unequal == "m: tensors have different batch sizes: 'a' 2, 'b' 3"
    assert spread == "m: tensors have different numbers of frames: 'a' 2, 'b' 1"


def test_failing_execution_is_blamed_on_its_request_and_told_without_paths(load, logged):
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", 1])]
    outputs = [helper.make_tensor_value_info("halves", TensorProto.FLOAT, ["B", 1])]
    table = helper.make_tensor("table", TensorProto.FLOAT, [2], [0.0, 0.5])
    graph = helper.make_graph([helper.make_node("Gather", ["table", "ids"], ["halves"])], "g", inputs, outputs, [table])
    model = load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    good, bad = np.array([[1]]), np.array([[7]])
    answers = model.execute([Request({"ids": ids}) for ids in (good, bad, good)])
    assert [answer.error and answer.error.code for answer in answers] == [None, INTERNAL, None]
    assert answers[0]["halves"] == answers[2]["halves"] == 0.5
    assert "/" not in answers[1].error.message
    assert len(logged) == 1
    assert "indices" in logged[0]


def test_frames_run_in_portions_give_the_same_to_the_bit(load, runner, monkeypatch):
    model = load(tiny_repository.pixels_graph(), frames_per_run="3", num_threads="1")
    assert isinstance(model._runtime, runner.executors.FrameWise)
    executor, sizes = model._runtime._executor, []
    run = executor.run
    monkeypatch.setattr(executor, "run", lambda feeds: sizes.append(feeds["frames"].shape[1]) or run(feeds))
    array, longer = frames(2, 7), frames(1, 8)
    answers = model.execute([Request({"frames": part}) for part in (array, array[:1], longer)])
    assert sizes == [3, 3, 1] * 3 + [3, 3, 2]
    for part, answer in zip((array, array[:1], longer), answers, strict=True):
        np.testing.assert_array_equal(answer["features"], run({"frames": part})[0])


def test_portions_of_all_requests_are_under_way_together(load, monkeypatch):
    model = load(tiny_repository.pixels_graph(), frames_per_run="4", num_threads="3")
    executor, together = model._runtime._executor, threading.Barrier(3, timeout=60)
    run = executor.run

    def run_with_the_others(feeds):
        together.wait()
        return run(feeds)

    monkeypatch.setattr(executor, "run", run_with_the_others)
    given = [frames(1, 1, seed=seed) for seed in range(3)]  # one portion each: alone, a request keeps one thread busy
    for array, answer in zip(given, model.execute([Request({"frames": array}) for array in given]), strict=True):
        np.testing.assert_allclose(answer["features"], mean_colours(array), atol=1e-6)


def test_a_portion_that_fails_spoils_its_own_request_only(load, logged, monkeypatch):
    model = load(tiny_repository.pixels_graph(), frames_per_run="2")
    executor = model._runtime._executor
    run = executor.run

    def sometimes(feeds):
        if feeds["frames"].max() == 255:
            raise RuntimeError("overflow")
        return run(feeds)

    monkeypatch.setattr(executor, "run", sometimes)
    good, bad = np.zeros((1, 4, 8, 8, 3), np.uint8), np.zeros((1, 4, 8, 8, 3), np.uint8)
    bad[0, 3] = 255
    answers = model.execute([Request({"frames": array}) for array in (good, bad, good)])
    assert [answer.error and answer.error.code for answer in answers] == [None, INTERNAL, None]
    assert len(logged) == 1


def test_portions_need_the_frame_axis_everywhere(load):
    with pytest.raises(ModelError, match="frames_per_run needs"):
        load(tiny_repository.answer_graph(), frames_per_run="3")


def test_cancelled_request_is_not_executed(load):
    model = load(tiny_repository.pixels_graph())
    (answer,) = model.execute([Request({"frames": frames(1, 1)}, cancelled=True)])
    assert answer.error.code == CANCELLED


def test_only_wanted_outputs_are_sent(load):
    model = load(tiny_repository.answer_graph())
    (answer,) = model.execute([Request({"features": np.zeros((1, 1, 4, 3), np.float32)}, outputs=("attention",))])
    assert [tensor.label for tensor in answer.tensors] == ["attention"]


@pytest.mark.parametrize(
    ("graph", "parameters", "words"),
    [
        pytest.param(b"no graph", {}, "m: model.onnx cannot be loaded", id="damaged"),
        pytest.param(b"", {"model_file": "other.onnx"}, "m: other.onnx is missing", id="missing"),
        pytest.param(b"", {"runtime": "abacus"}, "unknown runtime 'abacus', known: onnx.*, tensorrt", id="runtime"),
    ],
)
def test_unusable_model_is_not_loaded(load, graph, parameters, words):
    with pytest.raises(ModelError, match=words):
        load(graph, **parameters)
