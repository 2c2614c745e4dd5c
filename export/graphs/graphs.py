"""Preprocessing, temporal views and averaging as ONNX graphs, written node by node: torch is not needed.

All are a handful of operators, stay on the CPU in every flavour, and read their tensors from ``core``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from reelkind.core import specs, tensors
from reelkind.core.bundle import Bundle
from reelkind.core.specs import (
    TEMPORAL_VIEWS,
    VIEWS,
    average_graph,
    head_graph,
    preprocess_graph,
    temporal_attention_graph,
    temporal_views_graph,
)
from reelkind.core.taxonomy.classes import CLASSES, places_of_classes
from reelkind.core.taxonomy.subcategories import gain_and_offset

from ..errors import ExportError
from .canonical import assemble
from .guards import Guard
from .shares import shares

WIDTH_AXIS = 5  # of [B, V, T, 3, S, S]
_FLIPPED = {"flip": "identity", "narrow_flip": "narrow"}


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


class _SubcategoryNodes:
    """Nodes of each member's subcategories, which share constants."""

    def __init__(self, build: _Nodes) -> None:
        self._build = build
        lengths = [places.stop - places.start for places in places_of_classes().values()]
        self._lengths = build.constant("subcategories_of_classes", lengths)
        self._ones = build.constant("one_of_each_class", [1] * len(lengths))

    def add(self, bundle: Bundle, classes: str) -> str:
        """Subcategories [B, V, 46] of a member, given its class probabilities [B, V, K]."""
        build, member = self._build, bundle.name
        gain, offset = gain_and_offset(bundle.subcategories_learnt, bundle.subcategory_temperature)
        known = build.constant(f"subcategory_gain_{member}", gain, np.float32)
        silent = build.constant(f"subcategory_offset_{member}", offset, np.float32)
        source = f"{tensors.SUBCATEGORY_LOGITS.name}_{member}"
        calibrated = build.add("Mul", source, known, output=f"subcategories_calibrated_{member}")
        scaled = build.add("Add", calibrated, silent, output=f"subcategories_scaled_{member}")
        parts = [
            build.add("Mul", build.add("Softmax", finer, output=f"{finer}_shares", axis=-1), whole, output=f"{finer}_p")
            for finer, whole in zip(
                self._split(scaled, self._lengths, f"subcategories_{member}"),
                self._split(classes, self._ones, f"class_{member}"),
                strict=True,
            )
        ]
        return build.add("Concat", *parts, output=f"subcategories_by_view_{member}", axis=-1)

    def _split(self, source: str, lengths: str, name: str) -> list[str]:
        outputs = [f"{name}_of_{class_name}" for class_name in CLASSES]
        self._build.nodes.append(helper.make_node("Split", [source, lengths], outputs, axis=-1))
        return outputs


def build_preprocess(frame_size_px: int, views: str) -> onnx.ModelProto:
    """uint8 frames [B, T, H, W, 3] to uint8 views [B, V, T, 3, S, S].

    Frames are scaled as Pillow's antialiased bilinear filter does it; frames that are S x S already pass unchanged. A
    run with an empty axis fails.

    Args:
        frame_size_px: S.
        views: key of ``core.specs.VIEWS``.
    """
    size, build, guard = frame_size_px, _Nodes(), Guard()
    shape = guard.not_empty("frames")
    two, five = build.constant("two", [2]), build.constant("five", [5])
    build.add("Slice", shape, two, five, output="picture")  # [H, W, 3]
    build.add("Concat", build.constant("any", [-1]), "picture", output="flat_shape", axis=0)
    build.add("Reshape", "frames", "flat_shape", output="flat")  # [B*T, H, W, 3]
    build.add("Shape", "flat", output="num_frames", start=0, end=1)
    build.add("Concat", "num_frames", build.constant("square", [size, size, 3]), output="square_shape", axis=0)
    _add_resize(build, "flat", output="resized")  # [B*T, S, S, 3]; resizing before the transpose moves fewer bytes
    build.add("Transpose", "resized", output="planes", perm=[0, 3, 1, 2])  # [B*T, 3, S, S]
    build.add("Shape", "frames", output="batch", start=0, end=1)
    build.add("Shape", "frames", output="time", start=1, end=2)
    one, tail = build.constant("one", [1]), build.constant("tail", [3, size, size])
    build.add("Concat", "batch", one, "time", tail, output="view_shape", axis=0)
    build.add("Reshape", "planes", "view_shape", output="identity")  # [B, 1, T, 3, S, S]
    for view in VIEWS[views]:
        _add_view(build, view, size)
    build.add("Concat", *VIEWS[views], output="views", axis=1)
    nodes, constants = [*guard.nodes, *build.nodes], [*guard.constants, *build.constants]
    return assemble(preprocess_graph(frame_size_px, views), nodes, constants)


def build_temporal_views() -> onnx.ModelProto:
    """float32 features [B, V, T, D] to passes [B, P, T, D]: every view in the orders of ``TEMPORAL_VIEWS``."""
    build = _Nodes()
    orders = _add_orders(build, "features")
    build.add("Gather", "features", orders, output="by_view", axis=2)  # [B, V, R, T, D]
    build.add("Shape", "features", output="batch", start=0, end=1)
    build.add("Shape", "features", output="frames", start=2, end=4)  # [T, D]
    build.add("Concat", "batch", build.constant("any", [-1]), "frames", output="shape", axis=0)
    build.add("Reshape", "by_view", "shape", output="passes")
    return assemble(temporal_views_graph(), build.nodes, build.constants)


def build_temporal_attention() -> onnx.ModelProto:
    """What heads say of passes, put back on the frames that stood there: attention [B, P, T], logits [B, P, T, K].

    Of attention a frame that stood in several places gets the sum, one that stood nowhere gets 0. Of logits it gets the
    mean of its places in a pass, and of the passes of a view in which it has one; every pass of the view is given that.
    """
    build, num_orders = _Nodes(), len(TEMPORAL_VIEWS)
    orders = _add_orders(build, "pass_attention")
    last = build.constant("last", [-1])
    places = build.add("Unsqueeze", orders, last, output="places")  # [R, T, 1]
    build.add("Equal", places, "forward", output="stands_there")  # [R, T, T]
    build.add("Cast", "stands_there", output="one_hot", to=onnx.TensorProto.FLOAT)
    build.add("Shape", "pass_attention", output="batch", start=0, end=1)
    by_view = build.constant("by_view", [-1, num_orders, 1])
    build.add("Concat", "batch", by_view, "num_frames", output="split_shape", axis=0)
    build.add("Reshape", "pass_attention", "split_shape", output="split")  # [B, V, R, 1, T]
    build.add("MatMul", "split", "one_hot", output="put_back")
    build.add("Shape", "pass_attention", output="shape")
    build.add("Reshape", "put_back", "shape", output="frame_attention")
    _add_restored_logits(build, num_orders)
    return assemble(temporal_attention_graph(), build.nodes, build.constants)


def build_average(bundles: Sequence[Bundle], weights: Sequence[float] | None = None) -> onnx.ModelProto:
    """Head outputs of n members to probabilities [B, K], attention [B, T], embedding [B, sum of E], frames [B, T, K].

    Probabilities are softmax(logits / temperature), averaged over views, then over members; so are those of frames.
    Where every member has them, so are subcategories [B, 46], see ``core.taxonomy.subcategories``. Temperatures,
    weights and what was learnt are constants of the graph: a bundle calibrated anew needs its graphs exported anew.
    A run fails if members differ in V or T, which would be broadcast, or in B.

    Args:
        bundles: the members in order.
        weights: share of each member; equal shares by default.

    Raises:
        ExportError: if the weights do not fit the members.
    """
    parts = shares(weights, len(bundles))
    build, graph, guard = _Nodes(), average_graph(bundles), Guard()
    views = build.constant("view_axis", [1])
    finer = _SubcategoryNodes(build) if tensors.SUBCATEGORIES in graph.outputs else None
    terms: dict[str, list[str]] = {spec.name: [] for spec in graph.outputs}
    pairs = sorted(zip(bundles, parts, strict=True), key=lambda pair: pair[0].name)
    for bundle, share in pairs:
        member = bundle.name
        logits, attention, embedding, frames = (f"{spec.name}_{member}" for spec in head_graph(bundle).outputs[:4])
        if bundle is not pairs[0][0]:
            expected = f"{tensors.ATTENTION.name}_{pairs[0][0].name}"
            attention = guard.reshaped(attention, guard.alike(attention, expected))
        temperature = build.constant(f"temperature_{member}", bundle.temperature, np.float32)
        weight = build.constant(f"weight_{member}", share, np.float32)
        scaled = build.add("Div", logits, temperature, output=f"scaled_{member}")
        per_view = build.add("Softmax", scaled, output=f"softmax_{member}", axis=-1)  # [B, V, K]
        averaged = {"probabilities": per_view, "attention": attention, "embedding": embedding}
        scaled = build.add("Div", frames, temperature, output=f"frames_scaled_{member}")
        averaged["frame_probabilities"] = build.add("Softmax", scaled, output=f"frames_softmax_{member}", axis=-1)
        if finer is not None:
            averaged["subcategories"] = finer.add(bundle, per_view)
        for name, tensor in averaged.items():
            mean = build.add("ReduceMean", tensor, views, output=f"{name}_mean_{member}", keepdims=0)
            if name != "embedding":
                mean = build.add("Mul", mean, weight, output=f"{name}_share_{member}")
            terms[name].append(mean)
    for name, several in terms.items():
        if name == "embedding":
            build.add("Concat", *several, output=name, axis=-1)
        else:
            build.add("Sum", *several, output=name)
    constants = [*guard.constants, *build.constants] if guard.nodes else build.constants
    return assemble(graph, [*guard.nodes, *build.nodes], constants)


def _add_orders(build: _Nodes, source: str) -> str:
    """int64 [R, T]: which frame stands where in each of ``TEMPORAL_VIEWS``; T is the length of axis 2 of ``source``.

    Beside it are left ``num_frames`` [1] and ``forward`` [T].
    """
    build.add("Shape", source, output="num_frames", start=2, end=3)
    scalar = build.add("Squeeze", "num_frames", output="num_frames_scalar")
    zero, one = build.constant("zero", 0), build.constant("one", 1)
    build.add("Range", zero, scalar, one, output="forward")
    first = build.constant("first", [0])
    rows = [
        build.add("Unsqueeze", _add_order(build, name), first, output=f"{name}_row")  # [1, T]
        for name in TEMPORAL_VIEWS
    ]
    return build.add("Concat", *rows, output="orders", axis=0)


def _add_order(build: _Nodes, name: str) -> str:
    """int64 [T]: which frame stands where in a temporal view, under the view's name."""
    if name == "forward":
        return name
    if name == "even":
        two = build.constant("two", 2)
        return build.add("Mul", build.add("Div", "forward", two, output="pair"), two, output=name)
    if name == "odd":
        last = build.add("Sub", "num_frames_scalar", "one", output="last_frame")
        return build.add("Min", build.add("Add", "even", "one", output="odd_or_beyond"), last, output=name)
    raise ExportError(f"no graph is known for temporal view {name!r}: add it to reelkind.export.graphs.graphs")


def _add_restored_logits(build: _Nodes, num_orders: int) -> None:
    """``restored_frame_logits`` of ``pass_frame_logits``, given ``one_hot`` [R, T, T]: order, place, frame."""
    place_axis, order_axis = build.constant("place_axis", [1]), build.constant("order_axis", [0])
    one, free = build.constant("one_place", 1.0, np.float32), build.constant("free", [-1])
    places = build.add("ReduceSum", "one_hot", place_axis, output="num_places", keepdims=1)  # [R, 1, T]
    takes_part = build.add("Min", places, one, output="takes_part")
    passes = build.add("ReduceSum", takes_part, order_axis, output="num_passes", keepdims=1)  # [1, 1, T]
    build.add("Mul", build.add("Max", places, one, output="divisor"), passes, output="places_and_passes")
    build.add("Div", "one_hot", "places_and_passes", output="weights")  # sums to 1 for each frame
    build.add("Concat", free, "num_frames", output="weights_shape", axis=0)
    build.add("Reshape", "weights", "weights_shape", output="flat_weights")  # [R*T, T]
    build.add("Transpose", "flat_weights", output="weights_of_frames", perm=[1, 0])
    per_view = build.add("Mul", "num_frames", build.constant("orders_of_a_view", [num_orders]), output="per_view")
    classes = build.constant("classes", [len(CLASSES)])
    build.add("Concat", "batch", free, per_view, classes, output="by_place_shape", axis=0)
    build.add("Reshape", "pass_frame_logits", "by_place_shape", output="by_place")  # [B, V, R*T, K]
    build.add("MatMul", "weights_of_frames", "by_place", output="of_view")  # [B, V, T, K]
    build.add("Unsqueeze", "of_view", build.constant("pass_axis", [2]), output="of_view_once")
    repeats = build.constant("repeats", [1, 1, num_orders, 1, 1])
    build.add("Tile", "of_view_once", repeats, output="of_each_pass")  # [B, V, R, T, K]
    build.add("Shape", "pass_frame_logits", output="frame_logits_shape")
    build.add("Reshape", "of_each_pass", "frame_logits_shape", output="restored_frame_logits")


def _add_view(build: _Nodes, view: str, size: int) -> None:
    """The named view of the frames, uint8 [B, 1, T, 3, S, S], under its own name; ``X_flip`` comes after ``X``."""
    if view == "identity":
        return
    if view == "narrow":
        margin = specs.narrow_margin_px(size)
        left, right = build.constant("left", [margin]), build.constant("right", [size - margin])
        build.add("Slice", "resized", left, right, build.constant("columns", [2]), output="middle")
        _add_resize(build, "middle", output="widened")
        build.add("Transpose", "widened", output="widened_planes", perm=[0, 3, 1, 2])
        build.add("Reshape", "widened_planes", "view_shape", output=view)
    elif view in _FLIPPED:
        ends = build.constant(f"last_{view}", [-1]), build.constant(f"before_first_{view}", [np.iinfo(np.int64).min])
        steps = build.constant(f"width_axis_{view}", [WIDTH_AXIS]), build.constant(f"backwards_{view}", [-1])
        build.add("Slice", _FLIPPED[view], *ends, *steps, output=view)
    else:
        raise ExportError(f"no graph is known for view {view!r}: add it to reelkind.export.graphs.graphs")


def _add_resize(build: _Nodes, source: str, output: str) -> None:
    build.add(
        "Resize",
        *(source, "", "", "square_shape"),
        output=output,
        mode="linear",
        antialias=1,
        coordinate_transformation_mode="half_pixel",
        exclude_outside=1,  # without it rows and columns at the edges differ from Pillow's by up to 19 levels
    )
