"""A TensorRT engine executed for NumPy arrays: torch-free, pinned buffers, CUDA graphs where shapes repeat.

This file and ``core/cuda.py`` are copied beside ``model.py`` into model repositories whose ``runtime`` is ``tensorrt``;
the server's environment then needs ``tensorrt`` of the release that built the engine.
"""

from __future__ import annotations

import importlib
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from reelkind.core.cuda import Device

logger = logging.getLogger(__name__)

MAX_GRAPHS = 16  # recorded shapes; the one not used for longest is given up
FREE_AXES = ("B", "V", "T")  # of backbones and heads, in this order

Shapes = tuple[tuple[int, ...], ...]


class EngineError(Exception):
    """An engine cannot be loaded or refuses to run; the message says why."""


@dataclass(frozen=True)
class EnginePort:
    """An input or output of an engine.

    Attributes:
        name: of the tensor.
        dtype: NumPy dtype.
        shape: names of ``FREE_AXES`` for free axes.
        largest: the largest shape the engine accepts or gives.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    largest: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes of the largest tensor."""
        return math.prod(self.largest) * self.dtype.itemsize


class Engine:
    """One engine with one execution context and buffers for its largest shapes; calls wait for each other.

    Args:
        path: the serialised engine.
        device: the card; made by the caller, because TensorRT crashes where there is none.
        library: ``"tensorrt"`` or ``"tensorrt_rtx"``.

    Attributes:
        inputs, outputs: in the engine's order.
        context_bytes: device memory of the activations, beside engine and buffers.

    Raises:
        EngineError: if the engine was built by another release, for another card, or is damaged.
        ImportError: if the library is not installed.
    """

    def __init__(self, path: Path, device: Device, library: str = "tensorrt") -> None:
        trt: Any = importlib.import_module(library)
        self._device, self._lock = device, threading.Lock()
        device.make_current()
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)  # must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise EngineError(
                f"{path.name} is no engine of {library} {trt.__version__} for {device.name}: build it here and now "
                f"with `reelkind export engine`"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{path.name}: no memory for activations on {device.name}")
        self.context_bytes = int(self._engine.device_memory_size_v2)
        names = [self._engine.get_tensor_name(number) for number in range(self._engine.num_io_tensors)]
        given = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        for name in given:
            self._context.set_input_shape(name, self._largest(name))
        ports = [
            EnginePort(
                name,
                np.dtype(trt.nptype(self._engine.get_tensor_dtype(name))),
                _named(self._engine.get_tensor_shape(name)),
                tuple(self._context.get_tensor_shape(name)),
            )
            for name in names
        ]
        self.inputs: Sequence[EnginePort] = [port for port in ports if port.name in given]
        self.outputs: Sequence[EnginePort] = [port for port in ports if port.name not in given]
        self._stream = device.new_stream()
        self._host = {port.name: device.pinned(port.num_bytes) for port in ports}
        self._buffers = {port.name: device.allocate(port.num_bytes) for port in ports}
        for name, address in self._buffers.items():
            self._context.set_tensor_address(name, address)
        self._seen: Shapes | None = None
        self._graphs: OrderedDict[Shapes, tuple[int, Shapes]] = OrderedDict()
        self._records = True

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs in the engine's order.

        Raises:
            EngineError: if a shape is outside of what the engine was built for, or the engine fails.
            CudaError: if the card does.
        """
        with self._lock:
            if not self._buffers:
                raise EngineError("the engine is closed")
            self._device.make_current()
            shapes = tuple(feeds[port.name].shape for port in self.inputs)
            for port in self.inputs:
                array = feeds[port.name]
                if len(array.shape) != len(port.largest) or any(np.greater(array.shape, port.largest)):
                    raise EngineError(f"'{port.name}' is {list(array.shape)}, the engine ends at {list(port.largest)}")
                _view(self._host[port.name], array.shape, port.dtype)[...] = array
            made = self._execute(shapes)
            self._device.wait(self._stream)
            return [
                _view(self._host[port.name], shape, port.dtype).copy()
                for port, shape in zip(self.outputs, made, strict=True)
            ]

    def times_ms(self, feeds: Mapping[str, np.ndarray], num_runs: int) -> list[float]:
        """Time of each run on the card, copies from and to the host left out; all runs lie in the stream at once."""
        self.run(feeds)  # inputs and shapes are in place now, and everything has been loaded
        with self._lock:
            for port in self.inputs:
                self._context.set_input_shape(port.name, feeds[port.name].shape)
            marks = [self._device.new_event() for _ in range(num_runs + 1)]
            self._device.mark(marks[0], self._stream)
            for mark in marks[1:]:
                if not self._context.execute_async_v3(self._stream):
                    raise EngineError("the engine failed; the log has TensorRT's reason")
                self._device.mark(mark, self._stream)
            self._seen = None
            return [self._device.elapsed_ms(*pair) for pair in pairwise(marks)]

    def close(self) -> None:
        """Give buffers and recorded graphs back; activations and the engine go with this object."""
        with self._lock:
            self._device.make_current()
            self._device.wait(self._stream)
            while self._graphs:
                _, (graph, _) = self._graphs.popitem()
                self._device.forget(graph)
            while self._buffers:
                self._device.free(self._buffers.popitem()[1])
            while self._host:
                self._device.unpin(self._host.popitem()[1])

    def _execute(self, shapes: Shapes) -> Shapes:
        """Put the work into the stream and return the outputs' shapes."""
        if shapes in self._graphs:
            self._graphs.move_to_end(shapes)
            graph, made = self._graphs[shapes]
            self._device.launch(graph, self._stream)
            self._seen = None  # the context may stand at other shapes: they are set anew before the next plain run
            return made
        repeated = shapes == self._seen
        if not repeated:
            for port, shape in zip(self.inputs, shapes, strict=True):
                if not self._context.set_input_shape(port.name, shape):
                    raise EngineError(f"'{port.name}' is {list(shape)}, which is outside of the engine's profile")
        made = tuple(tuple(self._context.get_tensor_shape(port.name)) for port in self.outputs)
        self._enqueue(shapes, made)
        if repeated and self._records:
            self._device.wait(self._stream)  # these very shapes have run, as recording requires
            self._record(shapes, made)
        self._seen = shapes
        return made

    def _enqueue(self, shapes: Shapes, made: Shapes) -> None:
        for port, shape in zip(self.inputs, shapes, strict=True):
            array = _view(self._host[port.name], shape, port.dtype)
            self._device.copy_in(self._buffers[port.name], array, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise EngineError("the engine failed; the log has TensorRT's reason")
        for port, shape in zip(self.outputs, made, strict=True):
            array = _view(self._host[port.name], shape, port.dtype)
            self._device.copy_out(array, self._buffers[port.name], self._stream)

    def _record(self, shapes: Shapes, made: Shapes) -> None:
        try:
            graph = self._device.record(self._stream, lambda: self._enqueue(shapes, made))
        except Exception as error:  # engines with loops, as of an LSTM, may not be recorded
            logger.info("no CUDA graphs for this engine: %s", error)
            self._records = False
            return
        self._graphs[shapes] = (graph, made)
        if len(self._graphs) > MAX_GRAPHS:
            _, (oldest, _) = self._graphs.popitem(last=False)
            self._device.forget(oldest)

    def _largest(self, name: str) -> tuple[int, ...]:
        _, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        return tuple(largest)


def as_stage(engine: Engine, outputs: Sequence[str]) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """An engine of one input as a function of its inputs in order to these of its outputs, in this order."""
    (given,) = engine.inputs
    places = [[port.name for port in engine.outputs].index(name) for name in outputs]

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        made = engine.run({given.name: inputs[0]})
        return [made[place] for place in places]

    return run


def _named(shape: Sequence[int]) -> tuple[int | str, ...]:
    free = iter(FREE_AXES)
    return tuple(next(free, "?") if axis == -1 else int(axis) for axis in shape)  # intermediate tensors may have more


def _view(memory: np.ndarray, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """The beginning of a buffer as an array."""
    return memory[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
