"""Members, ensembles and their limits: what a deployment serves, and how far its rungs may differ.

    frames ─► preprocess ─► backbone_<member> ─► head_<member> ─► average_<members> ─► answer
                        └─► backbone_<other>  ─► head_<other>  ─┘

A ``Graph`` is one ONNX file and one Triton model; a ``Step`` wires a graph into an ``Ensemble``.
Generators (export, serving) read these; nothing of them is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import tensors
from .bundle import Bundle
from .clips import FRAME_SIZE_PX
from .tensors import TensorSpec

VIEWS: dict[str, tuple[str, ...]] = {
    "single": ("identity",),
    "tta": ("identity", "flip"),
}
"""Named sets of views; a view is one way of looking at the same frames."""

MAX_VIEWS = max(map(len, VIEWS.values()))

DEFAULT_ENSEMBLE = "classify"

MAX_BATCH = 8  # videos executed together; 8 x 16 frames of EfficientNetV2-M fit a 9.8 GB MIG slice in FP16
MAX_FRAMES = 300  # frames a request may carry: YouTube-8M's limit, five minutes at 1 Hz
QUEUE_DELAY_US = 2_000  # waiting this long for company costs less than 2 % of a clip on a CPU
MAX_QUEUE_SIZE = 64  # requests waiting at one model before new ones are refused (UNAVAILABLE)
QUEUE_TIMEOUT_US = 60_000_000  # a request older than a minute is refused, not answered late
WARMUP_FRAMES = 16
CPU_FRAMES_PER_RUN = 4  # on a CPU, activations of a few frames stay in its cache; memory does not grow with T
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
    "head": {"B": Range(1, 4, MAX_BATCH), "V": Range(1, 1, MAX_VIEWS), "T": Range(1, 16, MAX_FRAMES)},
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

PRECISIONS = ("fp32", "fp16")
"""How a backbone's or head's graph computes; what crosses a border of a graph has the types of ``tensors`` in both."""


@dataclass(frozen=True)
class Islands:
    """What stays FP32 inside an FP16 graph.

    Products with weights (``products``) compute in FP16. Every other operator follows what it reads, the wider type
    winning, so a sum with one FP32 term is FP32; only products lead back from FP32 to FP16.

    Attributes:
        products: ONNX operators worth FP16: convolutions and matrix products with weights.
        operators: ONNX operators that compute in FP32 wherever they stand.
        activation_products: whether products of two activations (attention scores and mixtures) stay FP32.
        min_columns: products with fewer result columns (attention pooling, classifier) stay FP32: nothing is gained.
    """

    products: tuple[str, ...]
    operators: tuple[str, ...]
    activation_products: bool
    min_columns: int


FP32_ISLANDS = Islands(
    products=("Conv", "Gemm", "MatMul"),
    operators=(
        "BatchNormalization",  # one that no convolution could take in: variances need FP32's range
        "LayerNormalization",  # sums of squares leave FP16's range
        "LSTM",  # its cell state adds up over all frames
        "Pow",  # squares, of which variances are made
        "Softmax",
    ),
    activation_products=True,
    min_columns=8,
)


@dataclass(frozen=True)
class Graph:
    """One ONNX graph, which is one Triton model.

    Attributes:
        name: model name on the server; ``<name>.onnx`` is not implied, see ``file``.
        kind: ``preprocess``, ``backbone``, ``head`` or ``average``.
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
        """Path inside a bundle's onnx folder of the graph in one of ``PRECISIONS``."""
        return self.file if precision == "fp32" or not self.is_network else f"{precision}/{self.file}"


def profile_shapes(graph: Graph, spec: TensorSpec) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Smallest, best and largest shape of an input of an engine."""
    ranges = PROFILES[graph.kind]
    triples = [
        (axis,) * 3 if isinstance(axis, int) else (ranges[axis].least, ranges[axis].best, ranges[axis].most)
        for axis in spec.shape
    ]
    least, best, most = zip(*triples, strict=True)
    return least, best, most


@dataclass(frozen=True)
class Step:
    """A graph inside an ensemble: graph tensor name -> ensemble tensor name."""

    graph: Graph
    input_map: dict[str, str]
    output_map: dict[str, str]


@dataclass(frozen=True)
class Ensemble:
    """Steps from one input tensor to the answer; executed in parallel where they do not depend on each other."""

    name: str
    members: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]
    views: str  # key of VIEWS


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


def head_graph(bundle: Bundle) -> Graph:
    """float32 [B, V, T, D] -> logits [B, V, K], attention [B, V, T], embedding [B, V, E]."""
    return Graph(
        name=f"head_{bundle.name}",
        kind="head",
        inputs=(tensors.features(bundle.backbone.feature_dim),),
        outputs=(tensors.LOGITS, tensors.VIEW_ATTENTION, tensors.view_embedding(bundle.embedding_dim)),
        members=(bundle.name,),
        file="head.onnx",
    )


def average_graph(bundles: Sequence[Bundle]) -> Graph:
    """All members' head outputs -> probabilities [B, K], attention [B, T], embedding [B, sum of E]."""
    names = tuple(bundle.name for bundle in bundles)
    inputs = [spec.named(f"{spec.name}_{bundle.name}") for bundle in bundles for spec in head_graph(bundle).outputs]
    return Graph(
        name="average_" + "_".join(names),
        kind="average",
        inputs=tuple(inputs),
        outputs=_answer(bundles),
        members=names,
        file="average.onnx" if len(names) == 1 else f"average_{'_'.join(names)}.onnx",
    )


def classify_ensemble(bundles: Sequence[Bundle], name: str = DEFAULT_ENSEMBLE, views: str = "single") -> Ensemble:
    """Frames to answer through one or several members.

    Raises:
        ValueError: if no bundle is given, or two carry the same name.
    """
    names = [bundle.name for bundle in bundles]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"an ensemble needs members with different names, got {names}")
    steps: dict[str, Step] = {}
    for bundle in bundles:
        size = bundle.backbone.frame_size_px
        preprocess = preprocess_graph(size, views)
        seen = f"views_{size}"
        steps[preprocess.name] = Step(preprocess, {"frames": "frames"}, {"views": seen})
        extracted = f"features_{bundle.name}"
        backbone, head = backbone_graph(bundle), head_graph(bundle)
        steps[backbone.name] = Step(backbone, {"views": seen}, {"features": extracted})
        outputs = {spec.name: f"{spec.name}_{bundle.name}" for spec in head.outputs}
        steps[head.name] = Step(head, {"features": extracted}, outputs)
    average = average_graph(bundles)
    steps[average.name] = Step(
        average,
        {spec.name: spec.name for spec in average.inputs},
        {spec.name: spec.name for spec in average.outputs},
    )
    return Ensemble(name, tuple(names), (tensors.FRAMES,), _answer(bundles), tuple(steps.values()), views)


def _answer(bundles: Sequence[Bundle]) -> tuple[TensorSpec, ...]:
    width = sum(bundle.embedding_dim for bundle in bundles)
    return (tensors.PROBABILITIES, tensors.ATTENTION, tensors.embedding(width))
