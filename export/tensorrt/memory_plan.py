"""What fits a card or slice: engines, activations and buffers of every model, added up before anything is deployed.

Sizes of engines and activations are TensorRT's own where engines have been built; else they are estimated from the FP16
graphs and marked so: weights as stored, and the most that is alive at a time if nothing is fused.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.specs import PROFILES, Graph

from ..errors import ExportError
from ..graphs.canonical import read_model
from ..graphs.half import to_half
from ..parity.half_check import any_input
from ..parity.half_emulation import with_rounding
from ..pipelines.intermediates import runner, with_outputs
from ..repository.engine_files import context_bytes, engine_path, find_engine
from ..repository.graph_files import find_graph_file

SLICES = {"a100-1g.10gb": 9_800_000_000}
"""Name -> bytes a program can use. A MIG slice of an A100 with 80 GB: 1/8 of its memory, less what the driver keeps."""

PROCESS_BYTES = 600_000_000  # CUDA context and kernels of one server process: an assumption until measured on a slice


@dataclass(frozen=True)
class ModelMemory:
    """Device memory of one model.

    Attributes:
        model: its name.
        member: whose it is.
        num_instances: execution contexts; they share the engine.
        engine_bytes: weights and code.
        context_bytes: activations of one instance at the largest shapes of its profile.
        buffer_bytes: inputs and outputs of one instance at the same shapes.
        measured: whether engine and activations are TensorRT's numbers.
    """

    model: str
    member: str
    num_instances: int
    engine_bytes: int
    context_bytes: int
    buffer_bytes: int
    measured: bool

    @property
    def total_bytes(self) -> int:
        """Of the engine and all instances."""
        return self.engine_bytes + self.num_instances * (self.context_bytes + self.buffer_bytes)


@dataclass(frozen=True)
class MemoryPlan:
    """All models on one card or slice."""

    available_bytes: int
    models: tuple[ModelMemory, ...]

    @property
    def needed_bytes(self) -> int:
        """Of all models and the process that runs them."""
        return PROCESS_BYTES + sum(model.total_bytes for model in self.models)

    @property
    def fits(self) -> bool:
        """Whether it can be deployed."""
        return self.needed_bytes <= self.available_bytes

    @property
    def promotion_bytes(self) -> int:
        """At the worst moment of putting a new version of a member in its place, for the member that needs most.

        The server then holds three versions of its models: the one that answers, the same loaded anew, and the new one.
        """
        of_member = Counter[str]()
        for model in self.models:
            of_member[model.member] += model.total_bytes
        return self.needed_bytes + 2 * max(of_member.values(), default=0)

    @property
    def promotes(self) -> bool:
        """Whether any member's new version can take its place while the server runs."""
        return self.promotion_bytes <= self.available_bytes

    @property
    def max_instances(self) -> int:
        """Instances of every model that would fit together; 0 if not even one does."""
        fixed = PROCESS_BYTES + sum(model.engine_bytes for model in self.models)
        each = sum(model.context_bytes + model.buffer_bytes for model in self.models)
        return max(0, (self.available_bytes - fixed) // each)


def plan_memory(
    bundles: Sequence[Bundle],
    available_bytes: int,
    *,
    num_instances: int = 1,
    engines: str | os.PathLike[str] | None = None,
) -> MemoryPlan:
    """Add up backbones and heads; preprocessing and averaging stay on the CPU.

    Args:
        bundles: the members of everything that is served.
        available_bytes: of the card or slice.
        num_instances: of every model.
        engines: folder of engines built for this card; estimates without one.

    Raises:
        ExportError: if a graph or an engine is missing or stale.
    """
    members = {bundle.name: bundle for bundle in bundles}
    if len(members) != len(bundles):
        raise ExportError(f"members must have different names, got {', '.join(bundle.name for bundle in bundles)}")
    graphs = [graph(bundle) for bundle in bundles for graph in (specs.backbone_graph, specs.head_graph)]
    models = []
    for graph in graphs:
        if engines is not None:
            path = find_engine(engines, graph, members)
            sizes = (path.stat().st_size, context_bytes(engine_path(engines, graph)))
        else:
            sizes = estimate(graph, find_graph_file(graph, members))
        (member,) = graph.members
        models.append(ModelMemory(graph.name, member, num_instances, *sizes, _border_bytes(graph), engines is not None))
    return MemoryPlan(available_bytes, tuple(models))


def estimate(graph: Graph, file: Path) -> tuple[int, int]:
    """Bytes of weights and of activations of an FP16 engine that has not been built."""
    half = to_half(graph, read_model(file)).model
    weights = sum(math.prod(tensor.dims) * _item_bytes(tensor.data_type) for tensor in half.graph.initializer)
    # Activations grow with videos and views; with frames, too, but for attention, so a head is tried at its longest.
    num_frames = 1 if graph.kind == "backbone" else PROFILES[graph.kind]["T"].most
    tensors = runner(with_outputs(with_rounding(half)))([any_input(graph, num_frames)])
    live = _peak_bytes(half, {name: array.size for name, array in tensors.items()})
    return weights, live * math.prod(span.most for span in PROFILES[graph.kind].values()) // num_frames


def _border_bytes(graph: Graph) -> int:
    """Bytes of inputs and outputs at the largest shapes."""
    lengths = {axis: span.most for axis, span in PROFILES[graph.kind].items()}
    return sum(
        math.prod(axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape) * spec.dtype.itemsize
        for spec in (*graph.inputs, *graph.outputs)
    )


def _peak_bytes(model: onnx.ModelProto, sizes: dict[str, int]) -> int:
    """The most bytes of tensors alive at a time, each from its maker to its last reader."""
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    last = {name: number for number, node in enumerate(model.graph.node) for name in node.input}
    alive, peak = dict[str, int](), 0
    for number, node in enumerate(model.graph.node):
        alive |= {name: sizes[name] * _item_bytes(types.get(name, 0)) for name in node.output if name in sizes}
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > number}
    return peak


def _item_bytes(kind: int) -> int:
    return onnx.helper.tensor_dtype_to_np_dtype(kind or onnx.TensorProto.FLOAT).itemsize
