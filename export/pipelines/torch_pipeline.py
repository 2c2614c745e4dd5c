"""The trained modules themselves as an ensemble: the reference that every other rung is measured against.

Nothing exported is used here: backbone and head are the training modules in FP32, views and averages are plain NumPy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.ensembles import classify_ensemble
from reelkind.core.specs import TEMPORAL_VIEWS, VIEWS, Graph
from reelkind.core.taxonomy.subcategories import distribution
from reelkind.models.head import TemporalHead

from ..errors import ExportError
from ..graphs.checkpoint import load_modules
from ..repository.graph_files import find_graph_file
from ..repository.members import member_weights
from .reference import onnx_stage
from .steps import Stage, Tensors, run_steps


def _narrow(planes: np.ndarray) -> np.ndarray:
    """The middle columns of uint8 [..., S, S], widened by Pillow, whose filter the exported graph follows."""
    from PIL import Image

    size = planes.shape[-1]
    box = (specs.narrow_margin_px(size), 0, size - specs.narrow_margin_px(size), size)
    flat = [Image.fromarray(plane).crop(box) for plane in planes.reshape(-1, size, size)]
    wide = [np.asarray(plane.resize((size, size), Image.Resampling.BILINEAR)) for plane in flat]
    return np.stack(wide).reshape(planes.shape)


_VIEW: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda planes: planes,
    "flip": lambda planes: planes[..., ::-1],
    "narrow": _narrow,
    "narrow_flip": lambda planes: _narrow(planes)[..., ::-1],
}

_ORDER: dict[str, Callable[[int], list[int]]] = {  # number of frames -> which frame stands where
    "forward": lambda num_frames: list(range(num_frames)),
    "even": lambda num_frames: [frame - frame % 2 for frame in range(num_frames)],
    "odd": lambda num_frames: [min(frame | 1, num_frames - 1) for frame in range(num_frames)],
}


class TorchPipeline:
    """Frames of the largest size a member sees, uint8 [B, T, S, S, 3], to every tensor of the ensemble.

    For members that see a smaller one the exported graph scales them: scaling is tested against Pillow instead.
    """

    def __init__(self, bundles: Sequence[Bundle], *, views: str = "single", temporal: bool = False) -> None:
        self.ensemble = classify_ensemble(bundles, views=views, temporal=temporal)
        self.stages: dict[str, Stage] = {}
        self._modules: dict[str, tuple[nn.Module, int]] = {}
        largest = max(bundle.backbone.frame_size_px for bundle in bundles)
        for bundle in bundles:
            backbone, head = load_modules(bundle)
            self._modules[specs.backbone_graph(bundle).name] = (backbone, 3)
            self._modules[specs.head_graph(bundle).name] = (head, 2)
            size = bundle.backbone.frame_size_px
            preprocess = specs.preprocess_graph(size, views)
            self.stages[preprocess.name] = (
                preprocess_stage(size, views)
                if size == largest
                else onnx_stage(find_graph_file(preprocess, {bundle.name: bundle}))
            )
            self.stages[specs.backbone_graph(bundle).name] = torch_stage(backbone, num_folded=3)
            self.stages[specs.head_graph(bundle).name] = torch_stage(head, num_folded=2)
        shares = dict(zip(self.ensemble.members, member_weights(bundles), strict=True))
        self.stages[specs.average_graph(bundles).name] = average_stage(bundles, [shares[each.name] for each in bundles])
        self.stages[specs.temporal_views_graph().name] = temporal_views_stage()
        self.stages[specs.temporal_attention_graph().name] = temporal_attention_stage()

    def __call__(self, frames: np.ndarray) -> Tensors:
        """Every tensor of the ensemble under its name."""
        return run_steps(self.ensemble, self.stages, frames)

    def layers(self, model: onnx.ModelProto, graph: Graph, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """What the convolutions inside a backbone give, under the names their results have in the exported graph.

        Convolutions are known by their weights, whose names the exporter keeps; a head has none.
        """
        module, num_folded = self._modules[graph.name]
        known = dict(module.named_modules())
        found: dict[str, np.ndarray] = {}
        hooks = []
        for node in model.graph.node:
            path = (
                node.input[1].removeprefix(f"{graph.kind}.").removesuffix(".weight") if node.op_type == "Conv" else ""
            )
            if path in known and path:

                def keep(_: nn.Module, __: object, output: Tensor, name: str = node.output[0]) -> None:
                    found[name] = output.numpy()

                hooks.append(known[path].register_forward_hook(keep))
        try:
            torch_stage(module, num_folded)(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return found


def torch_stage(module: nn.Module, num_folded: int, dtype: torch.dtype = torch.float32) -> Stage:
    """A training module, which knows one leading axis, over the ``num_folded`` leading axes of the contract.

    With ``torch.float64`` a copy of the module computes in that, which tells its rounding from somebody's mistake.
    """
    if dtype != torch.float32:
        module = copy.deepcopy(module).to(dtype)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (array,) = inputs
        leading = array.shape[:num_folded]
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        call: Callable[[Tensor], Any] = module.outputs if isinstance(module, TemporalHead) else module
        with torch.inference_mode():
            outputs = call((tensor.to(dtype) if tensor.is_floating_point() else tensor).flatten(0, num_folded - 1))
        tensors = [outputs] if isinstance(outputs, Tensor) else outputs
        return [output.unflatten(0, leading).numpy() for output in tensors]

    return run


def preprocess_stage(frame_size_px: int, views: str) -> Stage:
    """Views of frames that have the right size already."""

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (frames,) = inputs
        if frames.shape[2:4] != (frame_size_px, frame_size_px):
            raise ExportError(f"the PyTorch rung takes {frame_size_px}x{frame_size_px} frames, got {frames.shape[2:4]}")
        planes = frames.transpose(0, 1, 4, 2, 3)  # [B, T, 3, S, S]
        return [np.stack([_VIEW[name](planes) for name in VIEWS[views]], axis=1)]

    return run


def temporal_views_stage() -> Stage:
    """Features [B, V, T, D] rearranged along T to passes [B, P, T, D]."""

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (features,) = inputs
        orders = _orders(features.shape[2])
        passes = np.stack([features[:, :, order] for order in orders], axis=2)  # [B, V, R, T, D]
        return [passes.reshape(len(features), -1, *features.shape[2:])]

    return run


def temporal_attention_stage() -> Stage:
    """Attention [B, P, T] and logits [B, P, T, K] of rearranged frames to those of the frames they came from."""

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        weights, logits = inputs
        result = np.zeros_like(weights)
        orders = _orders(weights.shape[2])
        for place in range(weights.shape[1]):
            order = orders[place % len(orders)]
            for position, frame in enumerate(order):
                result[:, place, frame] += weights[:, place, position]
        return [result, _restored(logits, orders)]

    return run


def _restored(logits: np.ndarray, orders: Sequence[Sequence[int]]) -> np.ndarray:
    """Each frame's mean over its places in an order, then over the orders in which it has one; [B, P, T, K]."""
    result = np.empty_like(logits)
    for first in range(0, logits.shape[1], len(orders)):
        for frame in range(logits.shape[2]):
            found = [
                logits[:, first + number, [place for place, other in enumerate(order) if other == frame]].mean(axis=1)
                for number, order in enumerate(orders)
                if frame in order
            ]
            result[:, first : first + len(orders), frame] = np.mean(found, axis=0)[:, None]
    return result


def _orders(num_frames: int) -> list[list[int]]:
    return [_ORDER[name](num_frames) for name in TEMPORAL_VIEWS]


def average_stage(bundles: Sequence[Bundle], shares: Sequence[float] | None = None) -> Stage:
    """Temperatures, softmaxes and means in float64.

    Args:
        bundles: the members in any order; tensors come in that of their names, as the graph takes them.
        shares: of each bundle; equal ones by default.
    """
    weights = shares or [1 / len(bundles)] * len(bundles)
    ordered = sorted(zip(bundles, weights, strict=True), key=lambda pair: pair[0].name)
    step = len(specs.average_graph(bundles).inputs) // len(bundles)  # tensors of a member

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        terms = [
            _member_terms(bundle, share, inputs[place * step : (place + 1) * step])
            for place, (bundle, share) in enumerate(ordered)
        ]
        probabilities, attention, embeddings, *others = zip(*terms, strict=True)
        answer = (
            sum(probabilities),
            sum(attention),
            np.concatenate(embeddings, axis=-1),
            *(sum(each) for each in others),
        )
        return [np.asarray(array, np.float32) for array in answer]

    return run


def _member_terms(bundle: Bundle, share: float, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What a member adds to the average, in the order of the graph's outputs; the embedding stands beside others."""
    logits, attention, embedding, frames, *finer = (array.astype(np.float64) for array in inputs)
    per_view = _softmax(logits / bundle.temperature)  # [B, V, K]
    subcategories = [
        distribution(each, per_view, bundle.subcategories_learnt, bundle.subcategory_temperature) for each in finer
    ]
    per_frame = _softmax(frames / bundle.temperature)  # [B, V, T, K]
    shared = [share * array.mean(axis=1) for array in (per_view, attention, per_frame, *subcategories)]
    return [*shared[:2], embedding.mean(axis=1), *shared[2:]]


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
