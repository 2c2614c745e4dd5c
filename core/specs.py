"""Graphs, names and limits: what a deployment is made of, and how far its rungs may differ.

A ``Graph`` is one ONNX file and one Triton model; ``core.ensembles`` wires graphs into what a client asks.
Generators (export, serving) read these; nothing of them is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from . import tensors
from .bundle import Bundle
from .tensors import TensorSpec
from .timing.clips import FRAME_SIZE_PX

VIEWS: dict[str, tuple[str, ...]] = {
    "single": ("identity",),
    "tta": ("identity", "flip", "narrow", "narrow_flip"),
}
"""Named sets of views; a view is one way of looking at the same frames. What each brings: docs/tta.md."""

NARROW_SHARE = 8  # the narrow view leaves out 1/8 of the width on either side, which undoes half of 16:9's squeezing

TEMPORAL_VIEWS = ("forward", "even", "odd")
"""Ways to read the same frames' features under test-time augmentation: as they are, or every second one, twice."""

MAX_VIEWS = max(map(len, VIEWS.values()))  # that pass a backbone
MAX_PASSES = MAX_VIEWS * len(TEMPORAL_VIEWS)  # through a head


@dataclass(frozen=True)
class Tta:
    """One kind of test-time augmentation.

    Attributes:
        views: key of ``VIEWS``: how a frame is looked at.
        temporal: whether features are read in all orders of ``TEMPORAL_VIEWS``, which re-uses them.
        suffixes: of the names in ``Models``, in their order.
    """

    views: str
    temporal: bool
    suffixes: tuple[str, str, str]


TTA = {
    "off": Tta("single", False, ("", "", "")),
    "fast": Tta("single", True, ("_tta_fast", "", "_tta")),
    "full": Tta("tta", True, ("_tta", "_tta", "_tta")),
}


class Models(NamedTuple):
    """Names of the models that answer for a group of members with one kind of test-time augmentation.

    Attributes:
        classify: turns frames into an answer.
        features: turns frames into features.
        classify_features: turns features into an answer.
    """

    classify: str
    features: str
    classify_features: str


ALL_MEMBERS = "ensemble"  # the group of all members; every other group is a member's name
DEFAULT_ENSEMBLE = "classify"

MAX_BATCH = 4  # videos executed together; with all views of 32 frames, 512 pictures: two members fit a 9.8 GB MIG slice
MAX_FRAMES = 300  # frames a request may carry: YouTube-8M's limit, five minutes at 1 Hz
QUEUE_DELAY_US = 2_000  # waiting this long for company costs less than 2 % of a clip on a CPU
MAX_QUEUE_SIZE = 64  # requests waiting for a backbone on a CPU before new ones are refused (UNAVAILABLE)
QUEUE_TIMEOUT_US = 60_000_000  # where queues are limited, a request older than a minute is refused, not answered late
WARMUP_FRAMES = 16
CPU_FRAMES_PER_RUN = 4  # on a CPU, activations of a few frames stay in its cache; memory does not grow with T
CPU_BACKBONE_NICENESS = 5  # who refuses, hands on or finishes a clip goes before who has a second of work ahead
CPU_BACKBONE_INSTANCES = 2  # one computes while the other's clip is on its way through the cheap stages


@dataclass(frozen=True)
class Range:
    """Lengths of a free axis that an engine accepts, and the one it is tuned for."""

    least: int
    best: int
    most: int


PROFILES: dict[str, dict[str, Range]] = {
    # An engine sets memory aside for its largest input; what that comes to is added up by ``reelkind plan``.
    "backbone": {"B": Range(1, 4, MAX_BATCH), "V": Range(1, 1, MAX_VIEWS), "T": Range(1, 16, 32)},
    "head": {"B": Range(1, 4, MAX_BATCH), "V": Range(1, 1, MAX_PASSES), "T": Range(1, 16, MAX_FRAMES)},
}
"""Kind of graph -> axis -> lengths, of the engines of that kind."""


@dataclass(frozen=True)
class Tolerance:
    """How far two rungs of the parity ladder may differ.

    Attributes:
        max_abs: largest absolute difference of any class probability.
        top1_agreement: share of clips whose label must be the same.
        layer_error: relative error (root mean square) from which on a layer counts as the one that went wrong.
    """

    max_abs: float
    top1_agreement: float
    layer_error: float = 1e-3


FP32_TOLERANCE = Tolerance(max_abs=1e-4, top1_agreement=1.0)
FP16_TOLERANCE = Tolerance(max_abs=2e-2, top1_agreement=0.995, layer_error=5e-2)

# Integer products against FP32: a few per cent of a feature. Two runs of them differ as FP16 does: by a rounding step.
INT8_TOLERANCE = Tolerance(max_abs=0.15, top1_agreement=0.97, layer_error=0.25)

PRECISIONS = ("fp32", "fp16")
"""How a backbone's or head's graph computes; what crosses a border of a graph has the types of ``tensors`` in both."""

INT8 = "int8"
"""Products of integers, of backbones that are stored so; for CPUs only, everything else of the member is FP32 there."""


@dataclass(frozen=True)
class Graph:
    """One ONNX graph, which is one Triton model.

    Attributes:
        name: model name on the server; ``<name>.onnx`` is not implied, see ``file``.
        kind: ``preprocess``, ``backbone``, ``temporal_views``, ``head``, ``temporal_attention`` or ``average``.
        inputs, outputs: tensors in order.
        members: the members it belongs to.
        file: file name inside a bundle's onnx folder.
    """

    name: str
    kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    members: tuple[str, ...]
    file: str

    @property
    def is_network(self) -> bool:
        """Whether it is worth an accelerator: has FP16 graphs and engines, where the others stay on the CPU."""
        return self.kind in ("backbone", "head")

    def file_for(self, precision: str) -> str:
        """Path inside a bundle's onnx folder of the graph in one of ``PRECISIONS``, or ``INT8``."""
        if precision == INT8:  # beside the weights it points at
            return self.file.replace(".onnx", "_int8.onnx") if self.kind == "backbone" else self.file
        return self.file if precision == "fp32" or not self.is_network else f"{precision}/{self.file}"


def cpu_frames_per_run(precision: str) -> int:
    """Frames that a backbone sees at a time on a CPU; int8 takes its range from what it sees, so each goes alone."""
    return 1 if precision == INT8 else CPU_FRAMES_PER_RUN


def profile_shapes(graph: Graph, spec: TensorSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Smallest, best and largest shape of an input of an engine."""
    ranges = PROFILES[graph.kind]
    triples = [
        (axis,) * 3 if isinstance(axis, int) else (ranges[axis].least, ranges[axis].best, ranges[axis].most)
        for axis in spec.shape
    ]
    least, best, most = zip(*triples, strict=True)
    return least, best, most


def models_of(group: str | None = None, tta: str = "off") -> Models:
    """Names of the models of a group of members.

    Args:
        group: a member's name or ``ALL_MEMBERS``; None for the deployment's default member.
        tta: one of ``TTA``.

    Raises:
        ValueError: if ``tta`` is unknown.
    """
    if tta not in TTA:
        raise ValueError(f"unknown test-time augmentation {tta!r}, known: {', '.join(TTA)}")
    of_group = "" if group is None else f"_{group}"
    names = zip(Models._fields, TTA[tta].suffixes, strict=True)
    return Models(*(f"{kind}{of_group}{suffix}" for kind, suffix in names))


def classify_name(group: str | None = None, tta: str = "off") -> str:
    """``Models.classify`` of a group of members; arguments as those of ``models_of``."""
    return models_of(group, tta).classify


def features_name(group: str | None = None, tta: str = "off") -> str:
    """``Models.features``, likewise."""
    return models_of(group, tta).features


def classify_features_name(group: str | None = None, tta: str = "off") -> str:
    """``Models.classify_features``, likewise."""
    return models_of(group, tta).classify_features


def narrow_margin_px(frame_size_px: int) -> int:
    """Columns that the narrow view leaves out on either side."""
    return frame_size_px // NARROW_SHARE


def preprocess_graph(frame_size_px: int = FRAME_SIZE_PX, views: str = "single") -> Graph:
    """uint8 [B, T, H, W, 3] -> uint8 [B, V, T, 3, S, S]: resize the whole frame, make the views."""
    suffix = ("" if frame_size_px == FRAME_SIZE_PX else f"_{frame_size_px}") + (
        "" if views == "single" else f"_{views}"
    )
    return Graph(
        name=f"preprocess{suffix}",
        kind="preprocess",
        inputs=(tensors.FRAMES,),
        outputs=(tensors.views(frame_size_px),),
        members=(),
        file=f"preprocess{suffix}.onnx",
    )


def backbone_graph(bundle: Bundle) -> Graph:
    """uint8 [B, V, T, 3, S, S] -> float32 [B, V, T, D]; normalisation is inside."""
    return Graph(
        name=f"backbone_{bundle.name}",
        kind="backbone",
        inputs=(tensors.views(bundle.backbone.frame_size_px),),
        outputs=(tensors.features(bundle.backbone.feature_dim),),
        members=(bundle.name,),
        file="backbone.onnx",
    )


def temporal_views_graph() -> Graph:
    """float32 [B, V, T, D] -> [B, P, T, D]: each view's frames in the orders of ``TEMPORAL_VIEWS``."""
    return Graph(
        name="temporal_views",
        kind="temporal_views",
        inputs=(tensors.ANY_FEATURES,),
        outputs=(tensors.PASSES,),
        members=(),
        file="temporal_views.onnx",
    )


def temporal_attention_graph() -> Graph:
    """Attention [B, P, T] and frames' logits [B, P, T, K] of rearranged frames, back on the frames they came from."""
    return Graph(
        name="temporal_attention",
        kind="temporal_attention",
        inputs=(tensors.PASS_ATTENTION, tensors.PASS_FRAME_LOGITS),
        outputs=(tensors.FRAME_ATTENTION, tensors.RESTORED_FRAME_LOGITS),
        members=(),
        file="temporal_attention.onnx",
    )


def head_graph(bundle: Bundle) -> Graph:
    """float32 [B, V, T, D] -> logits [B, V, K], attention [B, V, T], embedding [B, V, E], frame_logits [B, V, T, K].

    A head with a second output gives subcategory_logits [B, V, 46] as well.
    """
    embedding = tensors.view_embedding(bundle.embedding_dim)
    finer = (tensors.SUBCATEGORY_LOGITS,) if bundle.has_subcategories else ()
    return Graph(
        name=f"head_{bundle.name}",
        kind="head",
        inputs=(tensors.features(bundle.backbone.feature_dim),),
        outputs=(tensors.LOGITS, tensors.VIEW_ATTENTION, embedding, tensors.FRAME_LOGITS, *finer),
        members=(bundle.name,),
        file="head.onnx",
    )


def average_graph(bundles: Sequence[Bundle]) -> Graph:
    """All members' head outputs -> probabilities [B, K], attention [B, T], embedding [B, sum of E], frames [B, T, K].

    Members stand in the order of their names, so that a set of members has one graph. If every head has its second
    output, the graph gives subcategories [B, 46] as well; else it leaves those of the others out.
    """
    bundles = sorted(bundles, key=lambda bundle: bundle.name)
    names = tuple(bundle.name for bundle in bundles)
    width = sum(bundle.embedding_dim for bundle in bundles)
    finer = all(bundle.has_subcategories for bundle in bundles)
    inputs = [
        spec.named(f"{spec.name}_{bundle.name}")
        for bundle in bundles
        for spec in head_graph(bundle).outputs
        if finer or spec != tensors.SUBCATEGORY_LOGITS
    ]
    outputs = (tensors.PROBABILITIES, tensors.ATTENTION, tensors.embedding(width), tensors.FRAME_PROBABILITIES)
    return Graph(
        name="average_" + "_".join(names),
        kind="average",
        inputs=tuple(inputs),
        outputs=(*outputs, tensors.SUBCATEGORIES) if finer else outputs,
        members=names,
        file="average.onnx" if len(names) == 1 else f"average_{'_'.join(names)}.onnx",
    )
