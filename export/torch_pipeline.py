"""The trained modules themselves as an ensemble: the reference that every other rung is measured against.

Nothing exported is used here: backbone and head are the training modules in FP32, views and averages are plain NumPy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.specs import VIEWS, Graph

from .checkpoint import load_modules
from .errors import ExportError
from .steps import Stage, Tensors, run_steps

_VIEW: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda planes: planes,
    "flip": lambda planes: planes[..., ::-1],
}


class TorchPipeline:
    """Frames of the bundles' own size, uint8 [B, T, S, S, 3], to every tensor of the ensemble."""

    def __init__(self, bundles: Sequence[Bundle], *, views: str = "single") -> None:
        self.ensemble = specs.classify_ensemble(bundles, views=views)
        self.stages: dict[str, Stage] = {}
        self._modules: dict[str, tuple[nn.Module, int]] = {}
        for bundle in bundles:
            backbone, head = load_modules(bundle)
            self._modules[specs.backbone_graph(bundle).name] = (backbone, 3)
            self._modules[specs.head_graph(bundle).name] = (head, 2)
            size = bundle.backbone.frame_size_px
            self.stages[specs.preprocess_graph(size, views).name] = preprocess_stage(size, views)
            self.stages[specs.backbone_graph(bundle).name] = torch_stage(backbone, num_folded=3)
            self.stages[specs.head_graph(bundle).name] = torch_stage(head, num_folded=2)
        self.stages[specs.average_graph(bundles).name] = average_stage(bundles)

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
        with torch.inference_mode():
            outputs = module((tensor.to(dtype) if tensor.is_floating_point() else tensor).flatten(0, num_folded - 1))
        tensors = [outputs] if isinstance(outputs, Tensor) else outputs
        return [output.unflatten(0, leading).numpy() for output in tensors]

    return run


def preprocess_stage(frame_size_px: int, views: str) -> Stage:
    """Views of frames that have the right size already; scaling is tested against Pillow instead."""

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (frames,) = inputs
        if frames.shape[2:4] != (frame_size_px, frame_size_px):
            raise ExportError(f"the PyTorch rung takes {frame_size_px}x{frame_size_px} frames, got {frames.shape[2:4]}")
        planes = frames.transpose(0, 1, 4, 2, 3)  # [B, T, 3, S, S]
        return [np.stack([_VIEW[name](planes) for name in VIEWS[views]], axis=1)]

    return run


def average_stage(bundles: Sequence[Bundle]) -> Stage:
    """Temperature, softmax and means in float64."""

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        logits, attention, embedding = inputs[0::3], inputs[1::3], inputs[2::3]
        probabilities = [
            _softmax(scores.astype(np.float64) / bundle.temperature).mean(axis=1)
            for bundle, scores in zip(bundles, logits, strict=True)
        ]
        answer = (
            np.mean(probabilities, axis=0),
            np.mean([weights.mean(axis=1) for weights in attention], axis=0),
            np.concatenate([vectors.mean(axis=1) for vectors in embedding], axis=-1),
        )
        return [array.astype(np.float32) for array in answer]

    return run


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return shares
