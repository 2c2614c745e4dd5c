"""A model repository that starts in two seconds: two small graphs and the ensemble ``classify`` made of them.

frames ─► tiny_pixels ─► features float32 [B, 1, T, 3] ─► tiny_answer ─► probabilities, attention, embedding
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import tritonclient.grpc as triton
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import np_to_triton_dtype

import reelkind.serving
from reelkind.core.files import checksums
from reelkind.serving.server import TritonServer

RUNNER = Path(reelkind.serving.__file__).parent / "runner" / "runner.py"
EXECUTORS, NUMPY_GUARD = RUNNER.with_name("executors.py"), RUNNER.with_name("numpy_guard.py")
CHECKSUMS = Path(checksums.__file__)
NUM_FRAMES, FRAME_SIZE_PX = 4, 32
MAX_BATCH = 8

_TYPES = {"TYPE_UINT8": TensorProto.UINT8, "TYPE_FP32": TensorProto.FLOAT}
_FRAMES = ("frames", "TYPE_UINT8", ["T", "H", "W", 3])
_FEATURES = ("features", "TYPE_FP32", [1, "T", 3])
_ANSWER = [
    ("probabilities", "TYPE_FP32", [4]),
    ("attention", "TYPE_FP32", ["T"]),
    ("embedding", "TYPE_FP32", [3]),
]


def expected_probabilities(frames: np.ndarray) -> np.ndarray:
    """What ``classify`` answers: softmax of the mean red, green and blue in 0 .. 1, and of 0."""
    colours = frames.astype(np.float64).mean(axis=(1, 2, 3)) / 255
    logits = np.concatenate([colours, np.zeros((len(frames), 1))], axis=1)
    weights = np.exp(logits)
    return weights / weights.sum(axis=1, keepdims=True)


_SLOW = """

class TritonPythonModel(TritonPythonModel):
    def execute(self, requests):
        import time

        time.sleep({delay_s})
        return super().execute(requests)
"""


def infer(url: str, frames: np.ndarray, timeout_s: float = 20.0) -> np.ndarray:
    """Ask ``classify`` at ``url`` for probabilities float32 [B, 4]."""
    tensor = triton.InferInput("frames", list(frames.shape), np_to_triton_dtype(frames.dtype))
    tensor.set_data_from_numpy(frames)
    with triton.InferenceServerClient(url) as client:
        return client.infer("classify", [tensor], client_timeout=timeout_s).as_numpy("probabilities")


def random_frames(num_videos: int = 1, num_frames: int = NUM_FRAMES, seed: int = 0) -> np.ndarray:
    """Random uint8 [B, T, 32, 32, 3]."""
    shape = (num_videos, num_frames, FRAME_SIZE_PX, FRAME_SIZE_PX, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(folder: Path, delay_s: float = 0.0, num_instances: int = 1, queue_delay_s: float = 0.02) -> Path:
    """Write the repository into ``folder`` and return it.

    The last model takes ``delay_s`` longer; requests wait up to ``queue_delay_s`` for others to share an execution.
    """
    _write_model(folder, "tiny_pixels", [_FRAMES], [_FEATURES], pixels_graph(), num_instances, queue_delay_s)
    _write_model(folder, "tiny_answer", [_FEATURES], _ANSWER, answer_graph(), 1, queue_delay_s)
    if delay_s:
        with (folder / "tiny_answer" / "1" / "model.py").open("a") as model:
            model.write(_SLOW.format(delay_s=delay_s))
    ensemble = _config("classify", "ensemble", [_FRAMES], _ANSWER)
    ensemble.platform = "ensemble"
    ensemble.backend = ""
    ensemble.parameters["num_frames"].string_value = str(NUM_FRAMES)
    ensemble.parameters["frame_size_px"].string_value = str(FRAME_SIZE_PX)
    pixels = ensemble.ensemble_scheduling.step.add(model_name="tiny_pixels", model_version=-1)
    pixels.input_map["frames"], pixels.output_map["features"] = "frames", "features"
    answer = ensemble.ensemble_scheduling.step.add(model_name="tiny_answer", model_version=-1)
    answer.input_map["features"] = "features"
    for name, _, _ in _ANSWER:
        answer.output_map[name] = name
    _save(folder, ensemble)
    return folder


def metrics_url(server: TritonServer) -> str:
    """Where a server's metrics are."""
    return f"http://{server.addresses.reach}:{server.addresses.metrics_port}/metrics"


def pixels_graph() -> onnx.ModelProto:
    """Mean colour of each frame, 0 .. 1."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "height_width"], ["means"], keepdims=0),  # [B, T, 3]
        helper.make_node("Div", ["means", "white"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "one"], ["features"]),  # [B, 1, T, 3]
    ]
    return _graph(nodes, [_FRAMES], [_FEATURES], {"height_width": [2, 3], "one": [1], "white": np.float32(255)})


def answer_graph() -> onnx.ModelProto:
    """Mean over frames, a zero as fourth logit, softmax."""
    nodes = [
        helper.make_node("ReduceMean", ["features", "view_time"], ["embedding"], keepdims=0),  # [B, 3]
        helper.make_node("Pad", ["embedding", "pads"], ["logits"]),  # [B, 4]
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceMean", ["features", "view_colour"], ["brightness"], keepdims=0),  # [B, T]
        helper.make_node("Softmax", ["brightness"], ["attention"], axis=1),
    ]
    constants = {"view_time": [1, 2], "view_colour": [1, 3], "pads": [0, 0, 0, 1]}
    return _graph(nodes, [_FEATURES], _ANSWER, constants)


def _graph(nodes, inputs, outputs, constants) -> onnx.ModelProto:
    values = [
        [helper.make_tensor_value_info(name, _TYPES[kind], ["B", *dims]) for name, kind, dims in tensors]
        for tensors in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", *values, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _config(name, backend, inputs, outputs) -> model_config_pb2.ModelConfig:
    config = model_config_pb2.ModelConfig(name=name, backend=backend, max_batch_size=MAX_BATCH)
    for tensors, field in ((inputs, config.input), (outputs, config.output)):
        for tensor, kind, dims in tensors:
            sizes = [-1 if isinstance(dim, str) else dim for dim in dims]
            field.add(name=tensor, data_type=model_config_pb2.DataType.Value(kind), dims=sizes)
    return config


def _write_model(
    folder: Path, name: str, inputs, outputs, graph: onnx.ModelProto, num_instances: int, queue_delay_s: float
) -> None:
    config = _config(name, "python", inputs, outputs)
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=num_instances)
    config.dynamic_batching.max_queue_delay_microseconds = int(queue_delay_s * 1e6)
    for key, value in {"model_file": "model.onnx", "runtime": "onnxruntime", "num_threads": "1"}.items():
        config.parameters[key].string_value = value
    if name == "tiny_pixels":  # treats every frame by itself
        config.parameters["frames_per_run"].string_value = "3"
    _save(folder, config)
    version = folder / name / "1"
    version.mkdir()
    onnx.save(graph, version / "model.onnx")
    shutil.copyfile(RUNNER, version / "model.py")
    for source in (EXECUTORS, NUMPY_GUARD, CHECKSUMS):
        shutil.copyfile(source, version / source.name)


def _save(folder: Path, config: model_config_pb2.ModelConfig) -> None:
    target = folder / config.name
    target.mkdir(parents=True)
    (target / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    if config.platform == "ensemble":
        (target / "1").mkdir()
