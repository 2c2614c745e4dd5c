"""Python-backend model: one ONNX graph executed for a list of requests.

This file is copied into a model repository as ``<model>/1/model.py`` and runs inside Triton's Python backend, in
the server's own environment: it may import NumPy, ONNX Runtime and ``triton_python_backend_utils`` and nothing of
reelkind but files copied beside it. So does the graph lie; parameters of config.pbtxt choose how it runs:

    model_file          file name of the graph in the version folder  (model.onnx)
    runtime             who executes it, a key of ``RUNTIMES``         (onnxruntime)
                            onnxruntime         on the CPU
                            onnxruntime_cuda    on the GPU, by ONNX Runtime's CUDA provider
                            tensorrt            a TensorRT engine, which is the ``model_file`` then
    num_threads         CPU threads, 0 = all we may use                 (0)
    frames_per_run      for graphs that treat every frame by itself: so many a run, and ``num_threads`` runs side by
                        side, each in one thread; 0 = all frames in one run, the threads inside its operators  (0)
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import triton_python_backend_utils as pb_utils

MAX_FRAMES = 300  # equals core.specs.MAX_FRAMES; this file cannot import it
FRAME_AXIS = "T"

Shape = tuple[int | str | None, ...]  # a name or None is a free axis
Feeds = dict[str, np.ndarray]


class InvalidRequestError(Exception):
    """The request itself is wrong; the message is meant for whoever sent it."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: name, dtype and shape, axis 0 being the batch."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape

    def check(self, array: np.ndarray) -> None:
        """Compare an array with the port.

        Raises:
            InvalidRequestError: naming the tensor, what was given and what is required.
        """
        fits = array.dtype == self.dtype and array.ndim == len(self.shape) and 0 not in array.shape
        fits = fits and all(
            axis == length for axis, length in zip(self.shape, array.shape, strict=False) if isinstance(axis, int)
        )
        if not fits:
            axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
            raise InvalidRequestError(
                f"tensor '{self.name}' is {array.dtype}{list(array.shape)}, "
                f"required is {self.dtype}[{axes}] with no axis empty"
            )
        for axis, length in zip(self.shape, array.shape, strict=False):
            if axis == FRAME_AXIS and length > MAX_FRAMES:
                raise InvalidRequestError(f"tensor '{self.name}' has {length} frames, at most {MAX_FRAMES} are allowed")


class Runtime(Protocol):
    """Executes one graph."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]
    joins_requests: bool  # whether requests are executed faster together than one after the other

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Outputs in the graph's order for checked inputs."""
        ...


class OnnxRuntime:
    """ONNX Runtime on the CPU, set up for several processes on one machine and for ever-changing shapes."""

    joins_requests = True
    provider = "CPUExecutionProvider"

    def __init__(self, path: Path, num_threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Every composing model is a process of its own: a pool that spins while idle takes the cores of the next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Memory patterns are kept for every input shape ever seen; clips come in many lengths. The arena stays: giving
        # memory back after every run costs a third of the time. What it holds is bounded by ``frames_per_run``.
        options.enable_mem_pattern = False
        if self.provider not in onnxruntime.get_available_providers():
            raise ValueError(f"this onnxruntime has no {self.provider}: the server's environment needs onnxruntime-gpu")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[self.provider])
        if self._session.get_providers()[0] != self.provider:  # it goes on without one that cannot start
            raise ValueError(f"{self.provider} cannot start here: no driver, or other CUDA libraries than it needs")
        self.inputs: Sequence[Port] = [_port(node) for node in self._session.get_inputs()]
        self.outputs: Sequence[Port] = [_port(node) for node in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self._session.run(None, feeds)
        return outputs


class CudaOnnxRuntime(OnnxRuntime):
    """ONNX Runtime on the first GPU that the server sees."""

    provider = "CUDAExecutionProvider"


class TensorRt:
    """A TensorRT engine on the first GPU that the server sees."""

    joins_requests = True

    def __init__(self, path: Path, num_threads: int) -> None:
        device = _module_beside("cuda").Device()  # says what is missing; TensorRT would crash
        self._engine = _module_beside("tensorrt_runtime").Engine(path, device)
        self.inputs: Sequence[Port] = [Port(port.name, port.dtype, port.shape) for port in self._engine.inputs]
        self.outputs: Sequence[Port] = [Port(port.name, port.dtype, port.shape) for port in self._engine.outputs]

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        for port in self._engine.inputs:
            given = feeds[port.name].shape
            if any(np.greater(given, port.largest)):
                largest = list(port.largest)
                raise InvalidRequestError(f"tensor '{port.name}' is {list(given)}, the engine takes {largest} at most")
        outputs: list[np.ndarray] = self._engine.run(feeds)
        return outputs


class FrameWise:
    """A runtime whose graph treats every frame by itself: a few frames at a time, several such runs side by side.

    Whole runs go to the threads instead of parts of one operator, so no thread waits for another at every layer;
    activations stay in the processor's cache, and memory does not grow with the length of clips. The values are the
    same to the bit.

    Args:
        runtime: executes one run in the calling thread.
        frames_per_run: most frames of one run, each view of a frame counted.
        num_threads: runs at a time.
    """

    joins_requests = False

    def __init__(self, runtime: Runtime, frames_per_run: int, num_threads: int) -> None:
        ports = [*runtime.inputs, *runtime.outputs]
        if len(runtime.inputs) != 1 or any(FRAME_AXIS not in port.shape for port in ports):
            raise ValueError("frames_per_run needs one input, and the axis 'T' in it and in every output")
        self._runtime, self._frames_per_run, self._num_threads = runtime, frames_per_run, num_threads
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="frames")
        self.inputs, self.outputs = runtime.inputs, runtime.outputs

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        array = feeds[self.inputs[0].name]
        videos = [self._run_video(video) for video in np.split(array, len(array))]
        return [np.concatenate(arrays) for arrays in zip(*videos, strict=True)]

    def _run_video(self, video: np.ndarray) -> list[np.ndarray]:
        name, axis = self.inputs[0].name, self.inputs[0].shape.index(FRAME_AXIS)
        num_frames, num_views = video.shape[axis], math.prod(video.shape[1:axis])
        step = max(1, min(self._frames_per_run // num_views, -(-num_frames // self._num_threads)))
        parts = np.split(video, range(step, num_frames, step), axis)
        runs = list(self._threads.map(lambda part: self._runtime.run({name: part}), parts))
        axes = [port.shape.index(FRAME_AXIS) for port in self.outputs]
        return [np.concatenate(arrays, axis) for arrays, axis in zip(zip(*runs, strict=True), axes, strict=True)]


RUNTIMES: dict[str, Callable[[Path, int], Runtime]] = {
    "onnxruntime": OnnxRuntime,
    "onnxruntime_cuda": CudaOnnxRuntime,
    "tensorrt": TensorRt,
}


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph.

        Raises:
            TritonModelException: if the parameters or the graph are of no use; the model is then not loaded.
        """
        parameters = json.loads(args["model_config"]).get("parameters", {})
        values = {name: value["string_value"] for name, value in parameters.items()}
        name, file = args["model_name"], values.get("model_file", "model.onnx")
        runtime = values.get("runtime", "onnxruntime")
        if runtime not in RUNTIMES:
            raise pb_utils.TritonModelException(f"{name}: unknown runtime '{runtime}', known: {', '.join(RUNTIMES)}")
        path = Path(args["model_repository"], args["model_version"], file)
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{name}: {file} is missing beside its model.py")
        try:
            num_threads = int(values.get("num_threads", "0")) or len(os.sched_getaffinity(0))  # left to it, ORT pins
            frames_per_run = int(values.get("frames_per_run", "0"))
            self._runtime: Runtime = RUNTIMES[runtime](path, 1 if frames_per_run else num_threads)
            if frames_per_run:
                self._runtime = FrameWise(self._runtime, frames_per_run, num_threads)
        except ImportError as error:
            raise pb_utils.TritonModelException(f"{name}: the server's environment lacks {error.name}") from error
        except Exception as error:
            raise pb_utils.TritonModelException(f"{name}: {file} cannot be loaded: {error}") from error
        self._name = name

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests in order; those with equal shapes are executed together.

        A wrong request, or one whose execution fails, is answered with an error of its own.
        """
        responses: list[Any] = [None] * len(requests)
        groups: dict[tuple[tuple[int, ...], ...], list[tuple[int, Feeds]]] = {}
        for i, request in enumerate(requests):
            if request.is_cancelled():
                responses[i] = _refusal("the request was cancelled", pb_utils.TritonError.CANCELLED)
                continue
            try:
                feeds = self._read(request)
            except InvalidRequestError as error:
                responses[i] = _refusal(f"{self._name}: {error}", pb_utils.TritonError.INVALID_ARG)
                continue
            groups.setdefault(tuple(array.shape[1:] for array in feeds.values()), []).append((i, feeds))
        for group in groups.values():
            for (i, _), outputs in zip(group, self._run_together([feeds for _, feeds in group]), strict=True):
                responses[i] = self._respond(requests[i], outputs)
        return responses

    def _read(self, request: Any) -> Feeds:
        feeds: Feeds = {}
        for port in self._runtime.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, port.name)
            if tensor is None:
                raise InvalidRequestError(f"tensor '{port.name}' is missing")
            feeds[port.name] = tensor.as_numpy()
            port.check(feeds[port.name])
        if len({len(array) for array in feeds.values()}) != 1:
            sizes = ", ".join(f"'{name}' {len(array)}" for name, array in feeds.items())
            raise InvalidRequestError(f"tensors have different batch sizes: {sizes}")
        return feeds

    def _run_together(self, batch: Sequence[Feeds]) -> list[list[np.ndarray] | Exception]:
        """Outputs of each member of the batch, or the error it met."""
        if not self._runtime.joins_requests and len(batch) > 1:
            return [self._run_together([feeds])[0] for feeds in batch]
        try:
            if len(batch) == 1:
                return [self._runtime.run(batch[0])]
            joined = {name: np.concatenate([feeds[name] for feeds in batch]) for name in batch[0]}
            outputs = self._runtime.run(joined)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._run_together([feeds])[0] for feeds in batch]  # finds out whose fault it was
        ends = np.cumsum([len(next(iter(feeds.values()))) for feeds in batch])[:-1]
        return [list(parts) for parts in zip(*(np.split(output, ends) for output in outputs), strict=True)]

    def _respond(self, request: Any, outputs: list[np.ndarray] | Exception) -> Any:
        if isinstance(outputs, InvalidRequestError):
            return _refusal(f"{self._name}: {outputs}", pb_utils.TritonError.INVALID_ARG)
        if isinstance(outputs, Exception):
            # The detail may name files of the server: it belongs into its log, not into the answer.
            pb_utils.Logger.log_error(f"{self._name}: {type(outputs).__name__}: {outputs}")
            return _refusal(
                f"{self._name}: execution failed; the server's log has the reason", pb_utils.TritonError.INTERNAL
            )
        wanted = set(request.requested_output_names())
        named = zip(self._runtime.outputs, outputs, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(port.name, np.ascontiguousarray(array)) for port, array in named if port.name in wanted]
        )


def _module_beside(name: str) -> Any:
    """A Python file that lies beside this one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"reelkind_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _refusal(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))


_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}


def _port(node: Any) -> Port:
    if node.type not in _DTYPES:
        raise ValueError(f"tensor '{node.name}' has type {node.type}, known: {', '.join(_DTYPES)}")
    return Port(node.name, np.dtype(_DTYPES[node.type]), tuple(node.shape))
