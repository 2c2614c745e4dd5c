"""Nodes and weights to one self-contained ONNX file: the same weights always give the same bytes.

Exporters leave traces of the machine and the day in a graph (source paths, stack traces, counters in names). Here a
graph keeps its operators, attributes and weights; everything else is named and ordered by rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from reelkind.core.specs import Graph
from reelkind.core.tensors import TensorSpec

from ..errors import ExportError

OPSET = 19  # the first with antialiased Resize is 18; TensorRT 10 and ONNX Runtime >= 1.17 read 19
IR_VERSION = 9  # what opset 19 came with; newer ones shut out older runtimes for nothing
HALF_STORAGE_MIN_ELEMENTS = 64  # below, a Cast node costs more bytes than it saves

_PRODUCER = "reelkind"


def assemble(graph: Graph, nodes: Iterable[onnx.NodeProto], weights: Iterable[onnx.TensorProto]) -> onnx.ModelProto:
    """A checked model with the tensors of ``graph`` at its border.

    Raises:
        onnx.checker.ValidationError: if the nodes do not form a valid graph.
    """
    inputs, outputs = ([_value_info(spec) for spec in specs] for specs in (graph.inputs, graph.outputs))
    body = helper.make_graph(list(nodes), graph.name, inputs, outputs, sorted(weights, key=lambda tensor: tensor.name))
    model = helper.make_model(
        body, producer_name=_PRODUCER, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def canonical(graph: Graph, exported: onnx.ModelProto) -> onnx.ModelProto:
    """What an exporter made, without its traces: names by rule, halves where exact, the border from ``graph``.

    Weights keep their names. FP32 weights whose values are all halves (as those of a bundle are) are stored as FP16
    with a Cast behind them: half the bytes, the same values, and a runtime folds the Cast when it loads the graph.
    """
    names = {value.name: value.name for value in (*exported.graph.input, *exported.graph.output)}
    weights, casts = [], []
    for number, tensor in enumerate(exported.graph.initializer):
        values = numpy_helper.to_array(tensor)
        name = names[tensor.name] = tensor.name if "." in tensor.name else f"constant_{number}"
        if _fits_half(values):
            weights.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
        else:
            weights.append(numpy_helper.from_array(values, name))
    nodes = [_clean(node, names, number) for number, node in enumerate(exported.graph.node)]
    return assemble(graph, _cast_bytes_first(graph, casts + nodes), weights)


def read_model(source: Path | bytes) -> onnx.ModelProto:
    """An exported graph, from its file or the bytes of one; weights it points at are read into it.

    Raises:
        ExportError: if the file is damaged.
    """
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    except onnx.checker.ValidationError as error:
        raise ExportError(
            f"{source!s:.200} points at weights that are not beside it, or not as it left them: {error}"
        ) from error
    except (DecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{source!s:.200} is no ONNX graph any more: {error}; run: reelkind export onnx") from error
    return model


def with_metadata(model: onnx.ModelProto, entries: Mapping[str, str]) -> bytes:
    """The file: the model with these metadata, serialised so that equal models are equal bytes."""
    helper.set_model_props(model, dict(sorted(entries.items())))
    file: bytes = model.SerializeToString(deterministic=True)
    return file


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, helper.np_dtype_to_tensor_dtype(spec.dtype), list(spec.shape))


def _fits_half(values: np.ndarray) -> bool:
    if values.dtype != np.float32 or values.size < HALF_STORAGE_MIN_ELEMENTS:
        return False
    with np.errstate(over="ignore"):
        return bool(np.array_equal(values.astype(np.float16).astype(np.float32), values))


def _clean(node: onnx.NodeProto, names: dict[str, str], number: int) -> onnx.NodeProto:
    for place, output in enumerate(node.output):
        if output:
            names.setdefault(output, f"{node.op_type.lower()}_{number}" + (f"_{place}" if place else ""))
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return helper.make_node(
        node.op_type,
        [names[name] if name else "" for name in node.input],
        [names[name] if name else "" for name in node.output],
        domain=node.domain,
        **dict(sorted(attributes.items())),
    )


def _cast_bytes_first(graph: Graph, nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Let every reader of a uint8 input read its Cast instead: TensorRT takes bytes into a Cast and nowhere else."""
    ordered = list(nodes)
    for spec in graph.inputs:
        if spec.dtype != np.uint8:
            continue
        cast = next(node for node in ordered if node.op_type == "Cast" and list(node.input) == [spec.name])
        ordered.remove(cast)
        for node in ordered:
            for place, name in enumerate(node.input):
                if name == spec.name:
                    node.input[place] = cast.output[0]
        ordered.insert(0, cast)
    return ordered
