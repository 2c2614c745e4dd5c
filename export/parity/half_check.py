"""An FP16 graph searched for what FP16 can do to it: numbers that leave its range, and errors that grow.

Inputs drive activations to their limits (black, white, noise, saturated), and every intermediate tensor is looked at as
FP16 hardware stores it; see ``half_emulation``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from reelkind.core import specs
from reelkind.core.specs import Graph

from ..errors import ParityError
from ..graphs.constants import float_types, with_plain_weights
from ..pipelines.clips import extreme_clips
from ..pipelines.intermediates import HALF_MAX, relative_error, runner, with_outputs
from .half_emulation import with_rounding

NUM_NOISE = 2  # random inputs beside the extremes, each from a seed of its own
HEAD_FRAMES = (1, 16, specs.MAX_FRAMES)
HEAD_SCALES = (0.0, 1.0, 10.0)  # of random features; those of trained backbones are about 1


@dataclass(frozen=True)
class HalfReport:
    """What the search found.

    Attributes:
        graph: model name.
        num_inputs: inputs tried.
        num_tensors: intermediate tensors looked at for each.
        largest: largest absolute value stored as FP16.
        largest_tensor: where.
        worst_error: largest relative error of an output of the graph, over the inputs.
    """

    graph: str
    num_inputs: int
    num_tensors: int
    largest: float
    largest_tensor: str
    worst_error: float

    @property
    def headroom(self) -> float:
        """How many times larger values could be before FP16 ends."""
        return HALF_MAX / self.largest


def search(graph: Graph, single: onnx.ModelProto, half: onnx.ModelProto) -> HalfReport:
    """Run both graphs on extreme and random inputs, and look at every tensor.

    Args:
        graph: their contract.
        single: the FP32 graph.
        half: the FP16 graph made of it.

    Raises:
        ParityError: naming input and tensor, if a number leaves FP16's range where FP32 has none.
    """
    reference, watched = runner(with_plain_weights(single)), runner(with_outputs(with_rounding(half)))
    types = float_types(half)
    tensors = [tensor for node in half.graph.node for tensor in node.output if tensor in types]  # as they are made
    largest, place, worst, num_inputs = 0.0, "", 0.0, 0
    for name, array in _inputs(graph):
        expected, given = reference([array]), watched([array])
        for tensor in tensors:
            values = given[tensor]
            if not np.isfinite(values).all():
                raise ParityError(
                    f"{graph.name} in FP16: {tensor} is not finite on {name}; keep its operator in FP32 "
                    f"(export.graphs.fp32_ops) or serve the graph in FP32"
                )
            size = float(np.abs(values).max(initial=0))
            if types[tensor] == onnx.TensorProto.FLOAT16 and size > largest:
                largest, place = size, tensor
        worst = max(worst, *(relative_error(expected[spec.name], given[spec.name]) for spec in graph.outputs))
        num_inputs += 1
    return HalfReport(graph.name, num_inputs, len(tensors), largest, place, worst)


def any_input(graph: Graph, num_frames: int, num_videos: int = 1, num_views: int = 1, seed: int = 0) -> np.ndarray:
    """A random input of a network: noise for a backbone, features of unit variance for a head."""
    (spec,) = graph.inputs
    lengths = {"B": num_videos, "V": num_views, "T": num_frames}
    shape = [axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape]
    rng = np.random.default_rng(seed)
    if spec.dtype == np.uint8:
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape, dtype=np.float32)


def _inputs(graph: Graph) -> Iterator[tuple[str, np.ndarray]]:
    (spec,) = graph.inputs
    if graph.kind == "backbone":
        for clip in extreme_clips(int(spec.shape[-1])):
            yield clip.name, np.ascontiguousarray(clip.frames.transpose(0, 3, 1, 2))[None, None]
        for seed in range(NUM_NOISE):
            yield f"noise, seed {seed}", any_input(graph, 1, seed=seed)
        return
    for num_frames in HEAD_FRAMES:
        for scale in HEAD_SCALES:
            for seed in range(NUM_NOISE if scale else 1):
                features = any_input(graph, num_frames, seed=seed)
                yield f"features x {scale:g}, T={num_frames}, seed {seed}", np.float32(scale) * features
