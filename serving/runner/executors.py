"""What executes a graph for Triton's Python backend: requests of NumPy arrays in, arrays or errors out.

Copied beside ``runner.py`` into a model repository; the same rules hold: NumPy, ONNX Runtime and files beside it.
"""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

MAX_FRAMES = 300  # equals core.specs.MAX_FRAMES; this file cannot import it
BATCH_AXIS, FRAME_AXIS = "B", "T"
VIEW_AXIS = 1  # of what a backbone takes and gives

Shape = tuple[int | str | None, ...]  # a name or None is a free axis
Feeds = dict[str, np.ndarray]
Outcome = list[np.ndarray] | Exception


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


class Executor(Protocol):
    """Runs one graph."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Outputs in the graph's order for checked inputs."""
        ...


class Runtime(Protocol):
    """Answers several requests at once."""

    inputs: Sequence[Port]
    outputs: Sequence[Port]

    def run(self, requests: Sequence[Feeds]) -> list[Outcome]:
        """Outputs in the graph's order for each request, or the error it met, which spoils no other."""
        ...


class OnnxRuntime:
    """ONNX Runtime on the CPU, set up for several processes on one machine and for ever-changing shapes."""

    provider = "CPUExecutionProvider"

    def __init__(self, path: Path, num_threads: int) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read as it is imported; else it reports to its maker
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


class Joining:
    """Requests with equal shapes are one run."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.inputs, self.outputs = executor.inputs, executor.outputs

    def run(self, requests: Sequence[Feeds]) -> list[Outcome]:
        answers: list[Outcome] = [[] for _ in requests]
        groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for i, feeds in enumerate(requests):
            groups.setdefault(tuple(array.shape[1:] for array in feeds.values()), []).append(i)
        for group in groups.values():
            for i, answer in zip(group, self._run_together([requests[i] for i in group]), strict=True):
                answers[i] = answer
        return answers

    def _run_together(self, batch: Sequence[Feeds]) -> list[Outcome]:
        try:
            if len(batch) == 1:
                return [self._executor.run(batch[0])]
            joined = {name: np.concatenate([feeds[name] for feeds in batch]) for name in batch[0]}
            outputs = self._executor.run(joined)
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._run_together([feeds])[0] for feeds in batch]  # finds out whose fault it was
        ends = np.cumsum([len(next(iter(feeds.values()))) for feeds in batch])[:-1]
        return [list(parts) for parts in zip(*(np.split(output, ends) for output in outputs), strict=True)]


class FrameWise:
    """For graphs that treat every frame by itself: a few frames at a time, several such runs side by side.

    Whole runs go to the threads instead of parts of one operator, so no thread waits for another at every layer;
    activations stay in the processor's cache, and memory does not grow with the length of clips. The runs of all
    requests are one pool, so that threads wait for company at its end only. The values are the same to the bit.

    Args:
        executor: executes one run in the calling thread.
        frames_per_run: most frames of one run, each view of a frame counted.
        num_threads: runs at a time.
    """

    def __init__(self, executor: Executor, frames_per_run: int, num_threads: int) -> None:
        ports = [*executor.inputs, *executor.outputs]
        if len(executor.inputs) != 1 or any(FRAME_AXIS not in port.shape for port in ports):
            raise ValueError("frames_per_run needs one input, and the axis 'T' in it and in every output")
        self._executor, self._frames_per_run, self._num_threads = executor, frames_per_run, num_threads
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="frames")
        self.inputs, self.outputs = executor.inputs, executor.outputs
        self._axis = executor.inputs[0].shape.index(FRAME_AXIS)

    def run(self, requests: Sequence[Feeds]) -> list[Outcome]:
        arrays = [feeds[self.inputs[0].name] for feeds in requests]
        num_frames = sum(len(array) * array.shape[self._axis] for array in arrays)
        share = -(-num_frames // self._num_threads)  # a thread's, so that none has nothing to do
        runs = [[self._start(row, share) for row in self._rows(array)] for array in arrays]
        return [self._collect(array, rows) for array, rows in zip(arrays, runs, strict=True)]

    def _rows(self, array: np.ndarray) -> list[np.ndarray]:
        """Videos, or each view of each where a run takes fewer frames than there are views."""
        videos = np.split(array, len(array))
        if self._views(array) <= self._frames_per_run:
            return videos
        return [view for video in videos for view in np.split(video, video.shape[VIEW_AXIS], VIEW_AXIS)]

    def _views(self, array: np.ndarray) -> int:
        return math.prod(array.shape[1 : self._axis])

    def _start(self, row: np.ndarray, share: int) -> list[Future[list[np.ndarray]]]:
        name, num_frames = self.inputs[0].name, row.shape[self._axis]
        step = max(1, min(self._frames_per_run // self._views(row), share))
        parts = np.split(row, range(step, num_frames, step), self._axis)
        return [self._threads.submit(self._executor.run, {name: part}) for part in parts]

    def _collect(self, array: np.ndarray, rows: Sequence[Sequence[Future[list[np.ndarray]]]]) -> Outcome:
        try:
            joined = [self._join([run.result() for run in runs]) for runs in rows]
        except Exception as error:
            return error
        outputs = [np.concatenate(arrays) for arrays in zip(*joined, strict=True)]
        if len(rows) > len(array):  # views went by themselves
            outputs = [output.reshape(len(array), -1, *output.shape[VIEW_AXIS + 1 :]) for output in outputs]
        return outputs

    def _join(self, runs: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
        """Outputs of a row's portions behind each other."""
        axes = [port.shape.index(FRAME_AXIS) for port in self.outputs]
        return [np.concatenate(parts, axis) for parts, axis in zip(zip(*runs, strict=True), axes, strict=True)]


EXECUTORS: dict[str, Callable[[Path, int], Executor]] = {
    "onnxruntime": OnnxRuntime,
    "onnxruntime_cuda": CudaOnnxRuntime,
    "tensorrt": TensorRt,
}


def load(path: Path, executor: str, num_threads: int, frames_per_run: int) -> Runtime:
    """A graph or engine ready to answer.

    Args:
        path: its file.
        executor: key of ``EXECUTORS``.
        num_threads: CPU threads.
        frames_per_run: 0 for one run of all frames, the threads inside its operators; else see ``FrameWise``.

    Raises:
        Exception: whatever is wrong with the file, or with a library it needs.
    """
    if frames_per_run:
        return FrameWise(EXECUTORS[executor](path, 1), frames_per_run, num_threads)
    return Joining(EXECUTORS[executor](path, num_threads))


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
