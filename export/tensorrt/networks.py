"""ONNX graphs to TensorRT networks: parsed, given their profile, compared with the contract, built.

``tensorrt`` and ``tensorrt_rtx`` have the same Python API here, in releases 10 and 11 of the one and 1.x of the other;
which of them is meant is an argument everywhere. Neither may be made a Runtime of without a driver: they crash.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import onnx

from reelkind.core.specs import Graph, profile_shapes

from ..errors import ExportError
from ..graphs.constants import with_plain_weights

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt_rtx"
WORKSPACE_BYTES = 1 << 30  # of the 9.8 GB of a slice; engines of all members must fit beside it
INSTALL = {TENSORRT: "pip install 'reelkind[gpu]'", TENSORRT_RTX: "pip install 'reelkind[gate]'"}

_DTYPES = {"uint8": "UINT8", "float16": "HALF", "float32": "FLOAT", "int64": "INT64"}


def load_library(name: str) -> Any:
    """The TensorRT module of that name.

    Raises:
        ExportError: if it is not installed, or cannot be loaded without a driver.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ExportError(f"{name} cannot be loaded ({error}): {INSTALL[name]}") from error


class Network:
    """A parsed graph, ready to build.

    Args:
        library: the TensorRT module.
        graph: its contract.
        model: the ONNX graph; its types are the engine's (strongly typed).
        watched: whether it gives intermediate tensors after the outputs of the contract.

    Attributes:
        num_layers: layers of the network.

    Raises:
        ExportError: if TensorRT refuses the graph, or its border is not the contract's.
    """

    def __init__(self, library: Any, graph: Graph, model: onnx.ModelProto, *, watched: bool = False) -> None:
        self._library, self._graph, self._watched = library, graph, watched
        self._messages: list[str] = []
        self._logger = _make_logger(library, self._messages.append)
        self._builder = library.Builder(self._logger)
        # Needed from TensorRT 10.12 on, the only kind in 11.
        flags = 1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self._network = self._builder.create_network(flags)
        self._parser = library.OnnxParser(self._network, self._logger)  # owns the weights: must outlive the build
        if not self._parser.parse(with_plain_weights(model).SerializeToString()):
            errors = [self._parser.get_error(number) for number in range(self._parser.num_errors)]
            reasons = "; ".join(f"{error.node_operator()}: {error.desc()}" for error in errors)
            raise ExportError(f"{graph.name}: TensorRT's parser refuses the graph: {reasons}")
        self._compare_with_contract()
        self.num_layers: int = self._network.num_layers

    def build(self, *, timing_cache: bytes = b"", compute_capability: str | None = None) -> tuple[bytes, bytes]:
        """Build the engine.

        Args:
            timing_cache: measured times of an earlier build on this card.
            compute_capability: card to build for without having it, e.g. ``"SM80"``; TensorRT-RTX only.

        Returns:
            The serialised engine, and the timing cache with this build's times; empty for a card that is not here.

        Raises:
            ExportError: with TensorRT's own reason.
        """
        config = self._builder.create_builder_config()
        config.clear_flag(self._library.BuilderFlag.TF32)  # else what is to stay FP32 is multiplied with 10 bits
        cache = None
        if compute_capability is None:
            config.set_memory_pool_limit(self._library.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
            cache = config.create_timing_cache(timing_cache)
            config.set_timing_cache(cache, ignore_mismatch=False)
        else:  # without a card a limit of the workspace is taken for memory to allocate, which fails
            config.num_compute_capabilities = 1
            config.set_compute_capability(getattr(self._library.ComputeCapability, compute_capability), 0)
        profile = self._builder.create_optimization_profile()
        for spec in self._graph.inputs:
            profile.set_shape(spec.name, *profile_shapes(self._graph, spec))
        config.add_optimization_profile(profile)
        engine = self._builder.build_serialized_network(self._network, config)
        if engine is None:
            reasons = "; ".join(self._messages[-3:]) or "it gives no reason"
            raise ExportError(f"{self._graph.name}: TensorRT cannot build the engine: {reasons}")
        return bytes(engine), bytes(cache.serialize()) if cache is not None else b""

    def context_bytes(self, engine: bytes) -> int:
        """Device memory of the activations of a built engine, which must be for the card of this machine."""
        loaded = self._library.Runtime(self._logger).deserialize_cuda_engine(engine)
        if loaded is None:
            raise ExportError(f"{self._graph.name}: TensorRT cannot read the engine it has just built")
        return int(loaded.device_memory_size_v2)

    def _compare_with_contract(self) -> None:
        ports = {
            "inputs": [self._network.get_input(number) for number in range(self._network.num_inputs)],
            "outputs": [self._network.get_output(number) for number in range(self._network.num_outputs)],
        }
        for side, specs in (("inputs", self._graph.inputs), ("outputs", self._graph.outputs)):
            found = [(port.name, port.dtype.name, tuple(port.shape)) for port in ports[side]]
            wanted = [
                (
                    spec.name,
                    _DTYPES[spec.dtype.name],
                    tuple(-1 if isinstance(axis, str) else axis for axis in spec.shape),
                )
                for spec in specs
            ]
            if (found[: len(wanted)] if self._watched else found) != wanted:
                raise ExportError(f"{self._graph.name}: TensorRT reads the {side} as {found}, the contract is {wanted}")


def _make_logger(library: Any, keep: Callable[[str], None]) -> Any:
    """A logger that keeps errors instead of printing them; on a machine without a card it complains of that, too."""

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                keep(message)

    return Logger()
