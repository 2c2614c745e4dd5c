"""An FP16 graph to one that a CPU runs with the values FP16 hardware would store.

ONNX Runtime has few FP16 kernels for CPUs: it computes long stretches of an FP16 graph in FP32 and never rounds between
two operators, so its answer says little about a GPU's. Here every operator's result is rounded to FP16, products being
summed in FP32 as tensor cores do; what leaves FP16's range becomes infinite, as it would there.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graphs.constants import float_types

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
_EXACT = frozenset(
    ("Clip", "Concat", "Flatten", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
)
"""Operators that choose or move values: what they give is a half already."""


def with_rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in FP32 whose tensors hold what those of the FP16 graph hold, under the same names."""
    types = float_types(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        halves = [name for name in node.output if types.get(name) == HALF]
        if node.op_type == "Cast" and types.get(node.input[0]) == HALF:
            nodes.append(helper.make_node("Identity", [*node.input], [*node.output]))  # it holds halves in FP32
        elif node.op_type == "Cast" and halves and types.get(node.input[0]) == SINGLE:
            nodes += _rounding(node.input[0], halves[0])
        elif halves and node.op_type not in _EXACT:
            raw = {name: f"{name}.raw" for name in halves}
            changed = onnx.NodeProto.FromString(node.SerializeToString())
            changed.output[:] = [raw.get(name, name) for name in node.output]
            if node.op_type == "Cast":
                changed.attribute[0].i = SINGLE
            nodes.append(changed)
            nodes += [part for name in halves for part in _rounding(raw[name], name)]
        else:
            nodes.append(node)
    del copy.graph.node[:], copy.graph.value_info[:]
    copy.graph.node.extend(nodes)
    for tensor in copy.graph.initializer:
        if tensor.data_type == HALF:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    return copy


def _rounding(source: str, result: str) -> list[onnx.NodeProto]:
    stored = f"{result}.stored"
    return [
        helper.make_node("Cast", [source], [stored], to=HALF),
        helper.make_node("Cast", [stored], [result], to=SINGLE),
    ]
