"""A graph in FP32 to the same graph in FP16 with FP32 islands, strongly typed: every change of type is a Cast.

TensorRT 11 has no FP16 flag and TensorRT 10 is told not to use its own: the types in the graph decide. Which operators
stay FP32 stands in ``export.graphs.fp32_ops``; the border of the graph keeps the types of the contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reelkind.core.specs import Graph

from ..errors import ExportError
from .canonical import assemble
from .constants import float_types, with_folded_norms, with_plain_weights
from .fp32_ops import FP32_OPS, Fp32Ops

HALF, SINGLE = int(TensorProto.FLOAT16), int(TensorProto.FLOAT)
_NAMES = {HALF: "half", SINGLE: "single"}
_HALF_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class CastRecord:
    """A change of type at run time.

    Attributes:
        tensor: what is cast.
        to: ``"half"`` or ``"single"``.
        made_by: operator that makes the tensor; ``"input"`` for an input of the graph.
        read_by: operators that read the cast; ``"output"`` for an output of the graph.
    """

    tensor: str
    to: str
    made_by: str
    read_by: tuple[str, ...]


@dataclass(frozen=True)
class HalfGraph:
    """The converted graph and what was decided.

    Attributes:
        model: the strongly typed graph.
        casts: every change of type between FP16 and FP32 in it.
        computed: operator -> how many of it compute in ``half`` and in ``single``.
    """

    model: onnx.ModelProto
    casts: tuple[CastRecord, ...]
    computed: dict[str, dict[str, int]]


def to_half(graph: Graph, model: onnx.ModelProto, fp32_ops: Fp32Ops = FP32_OPS) -> HalfGraph:
    """Convert a graph as ``reelkind export onnx`` writes it.

    Tensors keep their names, so those of both graphs can be compared one by one.

    Args:
        graph: its contract.
        model: the FP32 graph; not changed.
        fp32_ops: what stays FP32.

    Raises:
        ExportError: if a weight is too large for FP16.
    """
    plain = with_folded_norms(with_plain_weights(model))
    conversion = _Conversion(plain, fp32_ops)
    for node in plain.graph.node:
        conversion.add(node)
    for spec in graph.outputs:
        conversion.finish(spec.name)
    made_by = {name: node.op_type for node in conversion.nodes for name in node.output}
    casts = tuple(
        CastRecord(tensor, _NAMES[kind], made_by.get(tensor, "input"), tuple(readers))
        for (tensor, kind), readers in conversion.readers.items()
    )
    return HalfGraph(assemble(graph, conversion.nodes, conversion.weights.values()), casts, conversion.computed)


@dataclass
class _Conversion:
    """The graph under construction."""

    plain: onnx.ModelProto
    fp32_ops: Fp32Ops
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)
    readers: dict[tuple[str, int], list[str]] = field(default_factory=dict)  # of every cast
    computed: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types = float_types(self.plain)  # of activations: rewritten as the nodes are added
        self.constants = {tensor.name: tensor for tensor in self.plain.graph.initializer}
        self.outputs = {value.name for value in self.plain.graph.output}

    def add(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        results = [name for name in node.output if name in self.types]
        kind = self._kind(node) if results and node.op_type != "Cast" else None
        copy.input[:] = [self._read(name, kind, node.op_type) for name in node.input]
        if kind is not None:
            counts = self.computed.setdefault(node.op_type, {"half": 0, "single": 0})
            counts[_NAMES[kind]] += 1
            self.types |= dict.fromkeys(results, kind)
        # An output of the graph is FP32 by contract; what an FP16 node makes of it is cast at the end.
        copy.output[:] = [f"{name}.half" if name in self.outputs and kind == HALF else name for name in copy.output]
        self.nodes.append(copy)

    def finish(self, name: str) -> None:
        if self.types[name] == HALF:
            self.nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=SINGLE))
            self.readers[(f"{name}.half", SINGLE)] = ["output"]

    def _kind(self, node: onnx.NodeProto) -> int:
        read = [self.types[name] for name in node.input if name in self.types and name not in self.constants]
        if node.op_type in self.fp32_ops.operators:
            return SINGLE
        if node.op_type in self.fp32_ops.products:
            return HALF if self._is_worth_half(node) else SINGLE
        return SINGLE if SINGLE in read else HALF

    def _is_worth_half(self, node: onnx.NodeProto) -> bool:
        weight = self.constants.get(node.input[1])
        if weight is None:
            return not self.fp32_ops.activation_products
        if any(part in node.input[1] for part in self.fp32_ops.weights):
            return False
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        columns = weight.dims[0] if node.op_type == "Conv" or transposed else weight.dims[-1]
        return int(columns) >= self.fp32_ops.min_columns

    def _read(self, name: str, kind: int | None, reader: str) -> str:
        """Name of the tensor in the type in which the node wants it; integers and shapes are left alone."""
        if name in self.constants:
            return self._constant(name, kind)
        if kind is None or self.types.get(name, kind) == kind:
            return name
        cast = f"{name}.{_NAMES[kind]}"
        if (name, kind) not in self.readers:
            self.nodes.append(helper.make_node("Cast", [name], [cast], to=kind))
        self.readers.setdefault((name, kind), []).append(reader)
        return cast

    def _constant(self, name: str, kind: int | None) -> str:
        tensor = self.constants[name]
        if kind != HALF or tensor.data_type != SINGLE:
            self.weights[name] = tensor
            return name
        values = numpy_helper.to_array(tensor)
        largest = float(np.abs(values).max(initial=0))
        if not largest <= _HALF_MAX:
            raise ExportError(f"weight {name} holds {largest:.3g}, FP16 ends at {_HALF_MAX:.0f}: serve it in FP32")
        self.weights[f"{name}.half"] = numpy_helper.from_array(values.astype(np.float16), f"{name}.half")
        return f"{name}.half"
