"""PyTorch modules to ONNX: wrappers that exist only to be exported, and the one call of the exporter.

The dynamo exporter fixes the number of frames of ``nn.LSTM`` to the example's without a word, so the recurrent
layers are emitted as ONNX ``LSTM`` nodes here; everything else is the training module itself.
"""

from __future__ import annotations

import warnings

import onnx
import onnx_ir
import torch
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants_ir
from torch import Tensor, nn

from reelkind.core.bundle import Bundle
from reelkind.core.specs import Graph, backbone_graph, head_graph
from reelkind.models.clip_vit import TokenBody
from reelkind.models.head import Backbone, TemporalHead

from .canonical import OPSET, canonical
from .guards import refusing_empty

# An example's lengths must be different from each other and from 0 and 1, which the exporter takes for constants.
_EXAMPLE_LENGTHS = {"B": 2, "V": 3, "T": 5}


class ExportedBackbone(nn.Module):
    """``Backbone`` with the axes of the contract: uint8 [B, V, T, 3, S, S] to float32 [B, V, T, D]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        # Behind a transformer TensorRT cannot work the last axis out; behind a convolution it can.
        self.last_axis = backbone.feature_dim if isinstance(backbone.body, TokenBody) else -1

    def forward(self, views: Tensor) -> Tensor:
        frames = views.to(torch.float32)  # TensorRT takes uint8 straight into a Cast only, so the reshape comes after
        features: Tensor = self.backbone(frames.flatten(0, 2))  # [B*V*T, D]
        return features.reshape(*views.shape[:3], self.last_axis)


class ExportedLSTM(nn.Module):
    """A bidirectional ``nn.LSTM`` in inference, layer by layer as ONNX ``LSTM`` nodes: [N, T, E] to [N, T, E]."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        if not (lstm.bidirectional and lstm.batch_first and lstm.bias and lstm.proj_size == 0):
            raise ValueError("only a bidirectional, batch-first nn.LSTM with bias and no projection can be exported")
        self.hidden_size, self.num_layers = lstm.hidden_size, lstm.num_layers
        for layer in range(lstm.num_layers):
            parts: dict[str, list[Tensor]] = {"input": [], "recurrent": [], "bias": []}
            for direction in ("", "_reverse"):
                suffix = f"l{layer}{direction}"
                parts["input"].append(_onnx_gates(getattr(lstm, f"weight_ih_{suffix}")))
                parts["recurrent"].append(_onnx_gates(getattr(lstm, f"weight_hh_{suffix}")))
                biases = [_onnx_gates(getattr(lstm, f"bias_{kind}_{suffix}")) for kind in ("ih", "hh")]
                parts["bias"].append(torch.cat(biases))
            for name, tensors in parts.items():
                self.register_buffer(f"{name}_{layer}", torch.stack(tensors))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        num_clips, num_frames, _ = x.shape
        x = x.transpose(0, 1)  # [T, N, E]
        for layer in range(self.num_layers):
            weights = [getattr(self, f"{name}_{layer}") for name in ("input", "recurrent", "bias")]
            both: Tensor = torch.onnx.ops.symbolic(
                "LSTM",
                (x, *weights),
                {"direction": "bidirectional", "hidden_size": self.hidden_size},
                dtype=x.dtype,
                shape=(num_frames, 2, num_clips, self.hidden_size),
                version=14,
            )
            x = both.transpose(1, 2).flatten(2)  # [T, N, 2 * hidden] = [T, N, E]
        return (x.transpose(0, 1),)  # a tuple, as nn.LSTM returns


class ExportedHead(nn.Module):
    """``TemporalHead`` with the axes of the contract: float32 [B, V, T, D] to logits, attention, embedding, ..."""

    def __init__(self, head: TemporalHead) -> None:
        super().__init__()
        self.head = TemporalHead(head.config).eval()
        self.head.load_state_dict(head.state_dict())
        self.head.lstm = ExportedLSTM(head.lstm)  # type: ignore[assignment]

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        batch_and_views = features.shape[:2]
        outputs = self.head.outputs(features.flatten(0, 1))
        return tuple(output.unflatten(0, batch_and_views) for output in outputs)  # type: ignore[no-untyped-call]


def build_backbone_graph(bundle: Bundle, backbone: Backbone) -> onnx.ModelProto:
    """uint8 views [B, V, T, 3, S, S] to float32 features [B, V, T, D], normalisation inside."""
    return _export(backbone_graph(bundle), ExportedBackbone(backbone).eval())


def build_head_graph(bundle: Bundle, head: TemporalHead) -> onnx.ModelProto:
    """float32 features [B, V, T, D] to the tensors of ``core.specs.head_graph``; a run with an empty axis fails."""
    return refusing_empty(_export(head_graph(bundle), ExportedHead(head).eval()))


def _onnx_gates(tensor: Tensor) -> Tensor:
    """Rows of PyTorch's gate order i, f, g, o in ONNX's order i, o, f, c (g and c are the same gate)."""
    i, f, g, o = tensor.detach().chunk(4)
    return torch.cat([i, o, f, g])


def _export(graph: Graph, module: nn.Module) -> onnx.ModelProto:
    (spec,) = graph.inputs
    lengths = [axis if isinstance(axis, int) else _EXAMPLE_LENGTHS[axis] for axis in spec.shape]
    example = torch.zeros(lengths, dtype=getattr(torch, spec.dtype.name))
    free = {place: axis for place, axis in enumerate(spec.shape) if isinstance(axis, str)}
    with warnings.catch_warnings():
        # The exporter's own use of deprecated parts of torch is not ours to mend.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|copyreg|onnxscript)\b")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|copyreg|onnxscript)\b")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            optimize=False,  # it folds BatchNorm into weights, which then are no halves any more
            opset_version=OPSET,
            input_names=[spec.name],
            output_names=[output.name for output in graph.outputs],
            dynamic_shapes=(free,),
            verbose=False,
        )
    assert program is not None
    fold_constants_ir(program.model)
    onnx_ir.passes.Sequential(
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
    )(program.model)
    return canonical(graph, program.model_proto)
