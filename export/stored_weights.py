"""Weights that stand in a bundle once: graphs point into its .safetensors files instead of holding copies.

A .safetensors file is a JSON header and then tensors as they lie in memory, which is what ONNX calls external data. So
integers of a bundle stored as int8 are read from one place by PyTorch, by the FP32 graph and by the int8 graph.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reelkind.core.bundle import Bundle
from reelkind.models.storage import INT8_SUFFIX, SCALE_SUFFIX

from .errors import ExportError

LOUD_LAYER = ".mlp.fc2."  # part of the names of the layers behind QuickGELU
LEAST_LARGEST = 1.0  # of a token: QuickGELU ends at -0.17, which is to stay the small end of the range
MIN_BYTES = 1024  # smaller tensors lie in the graph: pointing at them costs as many bytes
_LAST_AXIS, _LEAST_LARGEST = "last_axis", "least_largest"
_HEADER_LENGTH_BYTES = 8
_DTYPES = {"I8": np.int8, "F16": np.float16, "F32": np.float32, "I64": np.int64}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor and where it lies.

    Attributes:
        file: name of the file, which lies beside the graphs.
        offset: of its first byte in the file.
        values: the tensor.
    """

    file: str
    offset: int
    values: np.ndarray


def stored_tensors(bundle: Bundle) -> dict[str, StoredTensor]:
    """Every tensor of the backbone of a bundle whose files of weights lie beside its graphs.

    Raises:
        ExportError: if a file is missing or no .safetensors file.
    """
    found: dict[str, StoredTensor] = {}
    for name in bundle.backbone.weights:
        path = bundle.path(name)
        try:
            content = path.read_bytes()
            found |= _tensors(content, PurePosixPath(name).name)
        except FileNotFoundError:
            raise ExportError(f"bundle {bundle.name!r} lacks {name} in {bundle.folder}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(f"{path} holds no weights any more: {error}") from error
    return found


def with_integers(model: onnx.ModelProto, tensors: Mapping[str, StoredTensor]) -> onnx.ModelProto:
    """A copy whose FP32 weights that are stored as integers are those integers, with Cast and Mul behind them.

    A runtime computes the products when it loads the graph.

    Raises:
        ExportError: if the graph does not hold each of them.
    """
    copy, layers = _copy(model), _integer_layers(tensors)
    weights, nodes = [], []
    for tensor in model.graph.initializer:
        layer = layers.pop(_key(numpy_helper.to_array(tensor)), None)
        if layer is None:
            weights.append(tensor)
            continue
        integers, scale, wide = layer + INT8_SUFFIX, layer + SCALE_SUFFIX, f"{layer}.wide"
        weights += [numpy_helper.from_array(tensors[name].values, name) for name in (integers, scale)]
        nodes += [
            helper.make_node("Cast", [integers], [wide], to=TensorProto.FLOAT),
            helper.make_node("Mul", [wide, scale], [tensor.name]),
        ]
    if layers:
        raise ExportError(f"{model.graph.name} does not hold {sorted(layers.values())[0]} as it is stored")
    first = model.graph.node[:1]  # the Cast of the bytes that come in
    del copy.graph.initializer[:], copy.graph.node[:]
    copy.graph.initializer.extend(sorted(weights, key=lambda tensor: tensor.name))
    copy.graph.node.extend([*first, *nodes, *model.graph.node[1:]])
    return copy


def with_integer_products(model: onnx.ModelProto) -> onnx.ModelProto:
    """What `with_integers` made, with products of integers: what such a layer reads is quantised as it comes.

    The range is that of the whole tensor, so frames are to be run one by one if none is to depend on others. Behind
    QuickGELU a few tokens are ten times as loud as the rest: there each token is divided by its largest value first.
    """
    copy = _copy(model)
    makers = {node.output[0]: node for node in model.graph.node}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        scaling = makers.get(node.input[1]) if node.op_type == "MatMul" else None
        if scaling is None or scaling.op_type != "Mul" or not scaling.input[1].endswith(SCALE_SUFFIX):
            nodes.append(node)
            continue
        (given, _), name = node.input, node.output[0]
        integers, scale = makers[scaling.input[0]].input[0], scaling.input[1]
        if LOUD_LAYER in integers:
            nodes += [
                helper.make_node("ReduceMax", [given, _LAST_AXIS], [f"{name}.largest"], keepdims=1),
                helper.make_node("Max", [f"{name}.largest", _LEAST_LARGEST], [f"{name}.loudness"]),
                helper.make_node("Div", [given, f"{name}.loudness"], [f"{name}.even"]),
                *_integer_product(f"{name}.even", integers, scale, f"{name}.product"),
                helper.make_node("Mul", [f"{name}.product", f"{name}.loudness"], [name]),
            ]
        else:
            nodes += _integer_product(given, integers, scale, name)
    del copy.graph.node[:]
    copy.graph.node.extend(_read(nodes, {value.name for value in model.graph.output}))
    last_axis = numpy_helper.from_array(np.array([-1], np.int64), _LAST_AXIS)
    least = numpy_helper.from_array(np.array(LEAST_LARGEST, np.float32), _LEAST_LARGEST)
    copy.graph.initializer.extend([last_axis, least])
    return copy


def _integer_product(given: str, integers: str, scale: str, result: str) -> list[onnx.NodeProto]:
    """Nodes of a product, in the form that ONNX Runtime makes one operator of."""
    q, q_scale, q_zero = (f"{result}.{part}" for part in ("input", "input_scale", "input_zero_point"))
    return [
        helper.make_node("DynamicQuantizeLinear", [given], [q, q_scale, q_zero]),
        helper.make_node("MatMulInteger", [q, integers, q_zero], [f"{result}.sums"]),
        helper.make_node("Cast", [f"{result}.sums"], [f"{result}.wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [q_scale, scale], [f"{result}.scale"]),
        helper.make_node("Mul", [f"{result}.wide", f"{result}.scale"], [result]),
    ]


def pointing_at(model: onnx.ModelProto, tensors: Mapping[str, StoredTensor]) -> onnx.ModelProto:
    """A copy whose larger weights lie in the bundle's files, wherever the same bytes are there."""
    copy = _copy(model)
    places = {_key(stored.values): stored for stored in tensors.values() if stored.values.nbytes >= MIN_BYTES}
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor)
        stored = places.get(_key(values))
        if stored is None:
            continue
        pointer = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        pointer.data_location = TensorProto.EXTERNAL
        for key, value in (("location", stored.file), ("offset", stored.offset), ("length", values.nbytes)):
            pointer.external_data.add(key=key, value=str(value))
        tensor.CopyFrom(pointer)
    return copy


def _integer_layers(tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Key of FP32 weights [in, out] -> name of the parameter."""
    layers = {}
    for name, stored in tensors.items():
        if name.endswith(INT8_SUFFIX):
            layer = name.removesuffix(INT8_SUFFIX)
            layers[_key(stored.values.astype(np.float32) * tensors[layer + SCALE_SUFFIX].values)] = layer
    return layers


def _key(values: np.ndarray) -> str:
    description = f"{values.dtype} {values.shape} ".encode()
    return hashlib.sha256(description + np.ascontiguousarray(values).tobytes()).hexdigest()


def _tensors(content: bytes, file: str) -> dict[str, StoredTensor]:
    start = _HEADER_LENGTH_BYTES + int.from_bytes(content[:_HEADER_LENGTH_BYTES], "little")
    header = json.loads(content[_HEADER_LENGTH_BYTES:start])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = (start + offset for offset in entry["data_offsets"])
        values = np.frombuffer(content[first:last], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        found[name] = StoredTensor(file, first, values)
    return found


def _read(nodes: list[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """Those nodes that something reads, in the same order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy
