"""Constants of a graph made plain: no Cast behind a stored half, no BatchNormalization behind a convolution.

Bundles keep weights as FP16 with a Cast behind each, or as integers with a Cast and a Mul by their scales. A runtime
folds those; TensorRT's strongly typed networks keep them as layers (3,590 for EfficientNetV2-S), so they are folded
before anything is built.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def with_plain_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose initialisers have the type they are used in: their casts and products are folded."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    kept = []
    for node in copy.graph.node:
        if node.op_type not in ("Cast", "Mul") or not weights.keys() >= set(node.input):
            kept.append(node)
            continue
        given = [numpy_helper.to_array(weights[name]) for name in node.input]
        if node.op_type == "Mul":
            values = given[0] * given[1]
        else:
            values = given[0].astype(helper.tensor_dtype_to_np_dtype(helper.get_node_attr_value(node, "to")))
        weights[node.output[0]] = numpy_helper.from_array(values, node.output[0])
    _replace(copy.graph, kept, weights)
    return copy


def with_folded_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each BatchNormalization that alone reads a convolution is part of the convolution's weights.

    The products are made in FP64; a graph rounded to FP16 afterwards is rounded once.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    readers = Counter(name for node in copy.graph.node for name in node.input)
    convolutions = {node.output[0]: node for node in copy.graph.node if node.op_type == "Conv"}
    kept = []
    for node in copy.graph.node:
        convolution = convolutions.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if convolution is None or readers[node.input[0]] > 1:
            kept.append(node)
            continue
        _fold(node, convolution, weights)
    _replace(copy.graph, kept, weights)
    return copy


def _fold(norm: onnx.NodeProto, convolution: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> None:
    """Make the convolution compute what the norm would have made of its output, under the norm's name."""

    def values(name: str) -> np.ndarray:
        return numpy_helper.to_array(weights[name]).astype(np.float64)

    scale, shift, mean, variance = map(values, norm.input[1:])
    epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    weight = values(convolution.input[1])
    bias = values(convolution.input[2]) if len(convolution.input) > 2 else np.zeros_like(mean)
    name = norm.output[0]
    folded = {
        f"{name}.weight": weight * factor.reshape(-1, *[1] * (weight.ndim - 1)),
        f"{name}.bias": (bias - mean) * factor + shift,
    }
    for key, array in folded.items():
        weights[key] = numpy_helper.from_array(array.astype(np.float32), key)
    convolution.input[:] = [convolution.input[0], *folded]
    convolution.output[0] = name


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], weights: dict[str, onnx.TensorProto]) -> None:
    """Give the graph these nodes and of the weights those that are read."""
    read = {name for node in nodes for name in node.input}
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    tensors = [onnx.TensorProto.FromString(weights[name].SerializeToString()) for name in sorted(read & weights.keys())]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(copies)
    graph.initializer.extend(tensors)


def float_types(model: onnx.ModelProto) -> dict[str, int]:
    """ONNX type of every tensor of a graph that is FP32 or FP16."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {
        value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)
    }
    return {name: kind for name, kind in types.items() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)}
