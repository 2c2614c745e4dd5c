"""Preprocessing and averaging as ONNX graphs, written node by node: nothing is traced and torch is not needed.

Both are a handful of operators, stay on the CPU in every flavour, and read their tensors from ``core``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from reelkind.core.bundle import Bundle
from reelkind.core.specs import VIEWS, average_graph, head_graph, preprocess_graph

from .canonical import assemble
from .errors import ExportError

WIDTH_AXIS = 5  # of [B, V, T, 3, S, S]


class _Nodes:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, values: object, dtype: type[np.generic] = np.int64) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name


def build_preprocess(frame_size_px: int, views: str) -> onnx.ModelProto:
    """uint8 frames [B, T, H, W, 3] to uint8 views [B, V, T, 3, S, S].

    Frames are scaled as Pillow's antialiased bilinear filter does it; frames that are S x S already pass unchanged.

    Args:
        frame_size_px: S.
        views: key of ``core.specs.VIEWS``.
    """
    size, build = frame_size_px, _Nodes()
    build.add("Shape", "frames", output="picture", start=2, end=5)  # [H, W, 3]
    build.add("Concat", build.constant("any", [-1]), "picture", output="flat_shape", axis=0)
    build.add("Reshape", "frames", "flat_shape", output="flat")  # [B*T, H, W, 3]
    build.add("Shape", "flat", output="num_frames", start=0, end=1)
    build.add("Concat", "num_frames", build.constant("square", [size, size, 3]), output="square_shape", axis=0)
    build.add(
        "Resize",
        *("flat", "", "", "square_shape"),
        output="resized",  # [B*T, S, S, 3]; resizing before the transpose moves fewer bytes
        mode="linear",
        antialias=1,
        coordinate_transformation_mode="half_pixel",
        exclude_outside=1,  # without it rows and columns at the edges differ from Pillow's by up to 19 levels
    )
    build.add("Transpose", "resized", output="planes", perm=[0, 3, 1, 2])  # [B*T, 3, S, S]
    build.add("Shape", "frames", output="batch", start=0, end=1)
    build.add("Shape", "frames", output="time", start=1, end=2)
    one, tail = build.constant("one", [1]), build.constant("tail", [3, size, size])
    build.add("Concat", "batch", one, "time", tail, output="view_shape", axis=0)
    build.add("Reshape", "planes", "view_shape", output="identity")  # [B, 1, T, 3, S, S]
    for view in VIEWS[views]:
        _add_view(build, view)
    build.add("Concat", *VIEWS[views], output="views", axis=1)
    return assemble(preprocess_graph(frame_size_px, views), build.nodes, build.constants)


def build_average(bundles: Sequence[Bundle], weights: Sequence[float] | None = None) -> onnx.ModelProto:
    """Head outputs of n members to probabilities [B, K], attention [B, T] and embedding [B, sum of E].

    Probabilities are softmax(logits / temperature), averaged over views, then over members. Temperatures and weights
    are constants of the graph: a bundle calibrated anew needs its graphs exported anew.

    Args:
        bundles: the members in order.
        weights: share of each member; equal shares by default.

    Raises:
        ExportError: if the weights do not fit the members.
    """
    shares = [1.0] * len(bundles) if weights is None else list(weights)
    if len(shares) != len(bundles) or min(shares) < 0 or sum(shares) <= 0:
        raise ExportError(f"{len(bundles)} members need as many weights >= 0, not all 0; got {shares}")
    build = _Nodes()
    views = build.constant("view_axis", [1])
    terms: dict[str, list[str]] = {"probabilities": [], "attention": [], "embedding": []}
    for bundle, share in zip(bundles, shares, strict=True):
        member = bundle.name
        logits, attention, embedding = (f"{spec.name}_{member}" for spec in head_graph(bundle).outputs)
        temperature = build.constant(f"temperature_{member}", bundle.temperature, np.float32)
        weight = build.constant(f"weight_{member}", share / sum(shares), np.float32)
        scaled = build.add("Div", logits, temperature, output=f"scaled_{member}")
        per_view = build.add("Softmax", scaled, output=f"softmax_{member}", axis=-1)  # [B, V, K]
        for name, tensor in (("probabilities", per_view), ("attention", attention), ("embedding", embedding)):
            mean = build.add("ReduceMean", tensor, views, output=f"{name}_mean_{member}", keepdims=0)
            if name != "embedding":
                mean = build.add("Mul", mean, weight, output=f"{name}_share_{member}")
            terms[name].append(mean)
    build.add("Sum", *terms["probabilities"], output="probabilities")
    build.add("Sum", *terms["attention"], output="attention")
    build.add("Concat", *terms["embedding"], output="embedding", axis=-1)
    return assemble(average_graph(bundles), build.nodes, build.constants)


def _add_view(build: _Nodes, view: str) -> None:
    """The named view of ``identity``, under its own name."""
    if view == "identity":
        return
    if view != "flip":
        raise ExportError(f"no graph is known for view {view!r}: add it to reelkind.export.graphs")
    last, before_first = build.constant("last", [-1]), build.constant("before_first", [np.iinfo(np.int64).min])
    axis, backwards = build.constant("width_axis", [WIDTH_AXIS]), build.constant("backwards", [-1])
    build.add("Slice", "identity", last, before_first, axis, backwards, output="flip")
