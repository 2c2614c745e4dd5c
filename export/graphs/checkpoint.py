"""A bundle on disk to PyTorch modules in FP32 on the CPU, and back."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from reelkind.core.bundle import HEAD_WEIGHTS_NAME, Bundle
from reelkind.models.backbones import build_backbone, read_state_dict
from reelkind.models.head import Backbone, TemporalHead
from reelkind.models.storage import expand

from ..errors import ExportError


def load_modules(bundle: Bundle) -> tuple[Backbone, TemporalHead]:
    """The member as it was trained, ready for inference.

    Raises:
        ExportError: if a weight file is missing or does not fit the sizes in ``bundle.json``.
    """
    backbone = build_backbone(bundle.backbone.name, frame_size_px=bundle.backbone.frame_size_px)
    if backbone.feature_dim != bundle.backbone.feature_dim:
        raise ExportError(
            f"{bundle.backbone.name} gives {backbone.feature_dim} features, bundle {bundle.name!r} says "
            f"{bundle.backbone.feature_dim}"
        )
    head = TemporalHead(bundle.head)
    for module, names in ((backbone, bundle.backbone.weights), (head, (HEAD_WEIGHTS_NAME,))):
        _fill(module, bundle, names)
    return backbone.eval(), head.eval()


def read_weights(bundle: Bundle, names: Sequence[str]) -> dict[str, Tensor]:
    """Tensors as stored in some of a bundle's files.

    Raises:
        ExportError: if a file is missing.
    """
    state: dict[str, Tensor] = {}
    for name in names:
        path = bundle.path(name)
        if not path.is_file():
            raise ExportError(f"bundle {bundle.name!r} lacks {name} in {bundle.folder}")
        state |= read_state_dict(path)
    return state


def _fill(module: nn.Module, bundle: Bundle, names: Sequence[str]) -> None:
    path, state = bundle.path(names[0]), expand(read_weights(bundle, names))
    absent = {name for name in module.state_dict() if name not in state}
    # Buffers that no inference reads, and the constants of normalisation, need not be stored.
    optional = {name for name in absent if name.endswith("num_batches_tracked") or name in ("mean", "std")}
    surplus = sorted(state.keys() - module.state_dict().keys())
    if absent - optional or surplus:
        raise ExportError(f"{path} does not fit the bundle: lacks {sorted(absent - optional)[:3]}, has {surplus[:3]}")
    try:
        module.load_state_dict(state, strict=False)  # FP16 tensors are widened on the way
    except RuntimeError as error:
        raise ExportError(f"{path} does not fit the sizes in bundle.json: {error}") from error
