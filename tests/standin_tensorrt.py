"""Stand-ins for what no machine without a GPU has: a card, and TensorRT's library.

Memory of the "card" is the host's, and an "engine" is its ONNX graph, executed by ONNX Runtime on that memory. So they
show how our code handles addresses, shapes, recorded graphs and files, and nothing about a GPU.
"""

from __future__ import annotations

import ctypes
import enum
import pickle
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnx
from onnx import helper

from reelkind.core.cuda import CudaError
from reelkind.export.pipelines.onnx_runtime import onnxruntime


class StandinDevice:
    """``core.cuda.Device`` over the host's memory; work is done at once, unless it is being recorded."""

    compute_capability, driver_version, memory_bytes = "8.0", "13.0", 1 << 28

    def __init__(self, name: str = "Stand-in", num_sms: int = 14) -> None:
        self.name, self.num_sms = name, num_sms
        self.recording: list[Callable[[], None]] | None = None
        self.num_launched = self.num_recorded = 0
        self._memory: dict[int, Any] = {}
        self._marks: list[float] = []
        self._graphs: dict[int, list[Callable[[], None]]] = {}

    def make_current(self) -> None:
        pass

    def allocate(self, num_bytes: int) -> int:
        memory = ctypes.create_string_buffer(num_bytes)
        address = ctypes.addressof(memory)
        self._memory[address] = memory
        return address

    def free(self, address: int) -> None:
        del self._memory[address]

    def free_bytes(self) -> int:
        return self.memory_bytes - sum(map(len, self._memory.values()))

    def pinned(self, num_bytes: int) -> np.ndarray:
        return np.zeros(num_bytes, np.uint8)

    def unpin(self, array: np.ndarray) -> None:
        pass

    def new_stream(self) -> int:
        return 1

    def wait(self, stream: int) -> None:
        if self.recording is not None:
            raise CudaError("cuStreamSynchronize: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def do(self, work: Callable[[], None]) -> None:
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        source, size = array.ctypes.data, array.nbytes
        self.do(lambda: ctypes.memmove(address, source, size) and None)

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        target, size = array.ctypes.data, array.nbytes
        self.do(lambda: ctypes.memmove(target, address, size) and None)

    def record(self, stream: int, work: Callable[[], None]) -> int:
        self.recording = []
        try:
            work()
            self.num_recorded += 1
            self._graphs[self.num_recorded] = self.recording
        finally:
            self.recording = None
        return self.num_recorded

    def launch(self, graph: int, stream: int) -> None:
        self.num_launched += 1
        for work in self._graphs[graph]:
            work()

    def forget(self, graph: int) -> None:
        del self._graphs[graph]

    def new_event(self) -> int:
        self._marks.append(0.0)
        return len(self._marks) - 1

    def mark(self, event: int, stream: int) -> None:
        self._marks[event] = time.perf_counter()

    def elapsed_ms(self, start: int, end: int) -> float:
        return 1e3 * (self._marks[end] - self._marks[start])


class _Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class _DataType(enum.Enum):
    FLOAT, HALF, UINT8, INT64 = np.float32, np.float16, np.uint8, np.int64


class _Error:
    def __init__(self, operator: str, text: str) -> None:
        self._operator, self._text = operator, text

    def node_operator(self) -> str:
        return self._operator

    def desc(self) -> str:
        return self._text


class _Port:
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self.name = value.name
        self.dtype = _DataType(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).type)
        self.shape = [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]


class _Network:
    num_inputs = num_outputs = num_layers = 0
    model: onnx.ModelProto

    def take(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.inputs, self.outputs = list(map(_Port, model.graph.input)), list(map(_Port, model.graph.output))
        self.num_inputs, self.num_outputs, self.num_layers = len(self.inputs), len(self.outputs), len(model.graph.node)

    def get_input(self, number: int) -> _Port:
        return self.inputs[number]

    def get_output(self, number: int) -> _Port:
        return self.outputs[number]


class _Parser:
    def __init__(self, network: _Network, logger: object) -> None:
        self._network, self._errors = network, list[_Error]()
        self.num_errors = 0

    def parse(self, data: bytes) -> bool:
        model = onnx.ModelProto.FromString(data)
        self._errors = [_Error(node.op_type, "not supported") for node in model.graph.node if node.op_type == "Resize"]
        self.num_errors = len(self._errors)
        self._network.take(model)
        return not self._errors

    def get_error(self, number: int) -> _Error:
        return self._errors[number]


class _Cache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> bytes:
        return self.data + b"t"  # grows with every build, so that a test sees it come back


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes


class _Config:
    def __init__(self) -> None:
        self.profiles: list[dict[str, Any]] = []
        self.limits: dict[str, int] = {}
        self.flags = {"TF32"}  # as TensorRT has it

    def clear_flag(self, flag: str) -> None:
        self.flags.discard(flag)

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.limits[pool] = limit

    def create_timing_cache(self, data: bytes) -> _Cache:
        return _Cache(data)

    def set_timing_cache(self, cache: _Cache, ignore_mismatch: bool) -> bool:
        return True

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile.shapes)
        return 0


class _Builder:
    num_built = 0

    def __init__(self, logger: object) -> None:
        pass

    def create_network(self, flags: int) -> _Network:
        assert flags == 2  # strongly typed
        return _Network()

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        assert config.limits  # a workspace without limit takes what the other members need
        assert not config.flags  # TF32 would round what is to stay FP32
        type(self).num_built += 1
        return pickle.dumps((network.model.SerializeToString(), config.profiles[0]))


class _Engine:
    """An ONNX graph behind the calls of ``ICudaEngine``."""

    device_memory_size_v2 = 1 << 20

    def __init__(self, data: bytes, device: StandinDevice, records: bool) -> None:
        graph, self.profile = pickle.loads(data)
        self.device, self.records = device, records
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        ports = onnx.ModelProto.FromString(graph).graph
        self.ports = {value.name: _Port(value) for value in (*ports.input, *ports.output)}
        self.num_io_tensors = len(self.ports)

    def create_execution_context(self) -> _Context:
        return _Context(self)

    def get_tensor_name(self, number: int) -> str:
        return list(self.ports)[number]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name in self.profile else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> _DataType:
        return self.ports[name].dtype

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        return self.profile[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.ports[name].shape)


class _Context:
    """The same behind the calls of ``IExecutionContext``."""

    def __init__(self, engine: _Engine) -> None:
        self._device, self._records = engine.device, engine.records
        self._session, self._ports, self._profile = engine.session, engine.ports, engine.profile
        self._given: dict[str, tuple[int, ...]] = {}
        self._shapes: dict[object, dict[str, tuple[int, ...]]] = {}
        self._addresses: dict[str, int] = {}

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._given:
            return self._given[name]
        key = tuple(sorted(self._given.items()))
        if key not in self._shapes:
            zeros = {given: np.zeros(shape, self._ports[given].dtype.value) for given, shape in self._given.items()}
            made = zip(self._session.get_outputs(), self._session.run(None, zeros), strict=True)
            self._shapes[key] = {port.name: array.shape for port, array in made}
        return self._shapes[key][name]

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._profile[name]
        if any(np.less(shape, least)) or any(np.greater(shape, most)):
            return False
        self._given[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        if self._device.recording is not None and not self._records:
            return False
        shapes = {name: self.get_tensor_shape(name) for name in self._ports}
        self._device.do(lambda: self._compute(shapes))
        return True

    def _compute(self, shapes: dict[str, tuple[int, ...]]) -> None:
        memory = {}
        for name, shape in shapes.items():
            dtype = np.dtype(self._ports[name].dtype.value)
            size = int(np.prod(shape)) * dtype.itemsize
            raw = (ctypes.c_uint8 * size).from_address(self._addresses[name])
            memory[name] = np.frombuffer(raw, dtype).reshape(shape)
        results = self._session.run(None, {name: memory[name] for name in self._profile})
        for port, result in zip(self._session.get_outputs(), results, strict=True):
            memory[port.name][...] = result


def standin_tensorrt(device: StandinDevice, *, version: str = "10.16.1", records: bool = True) -> Any:
    """A module with the parts of ``tensorrt`` that we use; ``records``: engines let themselves be recorded."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    trt.ILogger = type("ILogger", (), {"Severity": _Severity})
    trt.Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    trt.Builder, trt.OnnxParser = type("Builder", (_Builder,), {}), _Parser
    trt.NetworkDefinitionCreationFlag = enum.IntEnum("Flag", [("STRONGLY_TYPED", 1)])
    trt.BuilderFlag = type("BuilderFlag", (), {"TF32": "TF32"})
    trt.MemoryPoolType = type("MemoryPoolType", (), {"WORKSPACE": "workspace"})
    trt.TensorIOMode = type("TensorIOMode", (), {"INPUT": "INPUT"})
    trt.nptype = lambda dtype: dtype.value

    class Runtime:
        def __init__(self, logger: object) -> None:
            pass

        def deserialize_cuda_engine(self, data: bytes) -> _Engine | None:
            return _Engine(data, device, records) if data.startswith(b"\x80") else None

    trt.Runtime = Runtime
    return trt
