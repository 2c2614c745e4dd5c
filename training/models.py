"""Frames to features (`Backbone`) and features of a clip to logits (`TemporalHead`)."""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models as torchvision_models  # type: ignore[import-untyped]

from reelkind.core.bundle import HeadInfo

from .pooling import PooledLevels

# ImageNet statistics of RGB in [0, 1], as every torchvision classifier expects.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Suffix of the variants that pad stride-2 convolutions as TensorFlow's "SAME" does: bottom and right only.
SAME_PADDING_SUFFIX = "_same"

# Suffix of the variants that add mean and deviation of inner channels: texture tells a drawing from a photograph.
LEVELS_SUFFIX = "_levels"
LEVELS = {"mobilenet_v2": (13,)}  # blocks of ``features`` whose channels are pooled too

BACKBONE_NAMES = (
    "mobilenet_v2",
    "mobilenet_v2_same",
    "mobilenet_v2_levels",
    "resnet50",
    "resnet101",
    "efficientnet_v2_s",
    "efficientnet_v2_m",
)


HeadConfig = HeadInfo  # what a bundle stores is what builds the module


class Backbone(nn.Module):
    """Frames to features, normalisation included, so training and serving cannot differ in it.

    Attributes:
        feature_dim: D.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, feature_dim: int) -> None:
        super().__init__()
        self.body = body
        self.feature_dim = feature_dim
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255)

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 RGB [N, 3, S, S] to float [N, 3, S, S] of about zero mean and unit variance."""
        return (frames.to(self.mean.dtype) - self.mean) / self.std

    def forward(self, frames: Tensor) -> Tensor:
        """Features of each frame on its own.

        Args:
            frames: uint8 RGB [N, 3, S, S].

        Returns:
            float [N, D].
        """
        features: Tensor = self.body(self.normalise(frames))
        return features


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention over the frames of a clip."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features float [N, T, E] to float [N, T, E]."""
        num_clips, num_frames, width = x.shape
        split = (num_clips, num_frames, self.num_heads, width // self.num_heads)
        query = self.query(x).view(split).transpose(1, 2)  # [N, heads, T, E/heads]
        key = self.key(x).view(split).transpose(1, 2)
        value = self.value(x).view(split).transpose(1, 2)
        scores = query @ key.transpose(-2, -1) * (width // self.num_heads) ** -0.5  # [N, heads, T, T]
        mixed = scores.softmax(dim=-1) @ value  # [N, heads, T, E/heads]
        output: Tensor = self.output(mixed.transpose(1, 2).reshape(num_clips, num_frames, width))
        return output


class TemporalHead(nn.Module):
    """Features of T frames to logits: projection -> BiLSTM -> self-attention -> attention pooling -> classifier."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.feature_dim, config.width)
        self.projection_norm = nn.LayerNorm(config.width)
        self.lstm = nn.LSTM(
            config.width,
            config.width // 2,
            num_layers=config.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.self_attention = SelfAttention(config.width, config.num_attention_heads)
        self.attention_norm = nn.LayerNorm(config.width)
        self.pooling = nn.Linear(config.width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, config.num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One prediction a clip, whatever its number of frames.

        Args:
            features: float32 [N, T, D], T >= 1.

        Returns:
            Logits float32 [N, K]; attention float32 [N, T], how much each frame counted (sums to 1);
            embedding float32 [N, E], the pooled clip before the classifier.
        """
        x = self.projection_norm(self.projection(features))  # [N, T, E]
        x = x + self.lstm(x)[0]  # the projection stays audible through four recurrent layers
        x = self.attention_norm(x + self.self_attention(x))
        attention = self.pooling(x).squeeze(-1).softmax(dim=-1)  # [N, T]
        embedding = (attention.unsqueeze(-1) * x).sum(dim=1)  # [N, E]
        return self.classifier(self.dropout(embedding)), attention, embedding


class SamePadConv2d(nn.Conv2d):
    """Stride-2 convolution padded at the bottom and right only, as TensorFlow pads even inputs."""

    def forward(self, input: Tensor) -> Tensor:
        padding = self.kernel_size[0] - self.stride[0]
        padded = functional.pad(input, (0, padding, 0, padding))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def build_backbone(name: str, weights: str | Path | None = None) -> Backbone:
    """A torchvision classifier without its last layer.

    Args:
        name: one of `BACKBONE_NAMES`.
        weights: "hub" for torchvision's own ImageNet weights (downloads), a state dict (.safetensors or .pth, either
            also .xz) with torchvision's or this class's names, or None for random weights from torch's seed.

    Raises:
        ValueError: if the name is unknown.
        FileNotFoundError: if the file of weights does not exist.
    """
    if name not in BACKBONE_NAMES:
        raise ValueError(f"unknown backbone {name!r} (known: {', '.join(BACKBONE_NAMES)})")
    plain = name.removesuffix(SAME_PADDING_SUFFIX).removesuffix(LEVELS_SUFFIX)
    body = torchvision_models.get_model(plain, weights="DEFAULT" if weights == "hub" else None)
    feature_dim = _remove_classifier(body)
    if name.endswith(SAME_PADDING_SUFFIX):
        _pad_as_tensorflow(body)
    if name.endswith(LEVELS_SUFFIX):
        body = PooledLevels(body.features, LEVELS[plain])
        feature_dim += sum(2 * _num_channels(body.features[level]) for level in body.levels)
    backbone = Backbone(body, feature_dim)
    if weights is not None and weights != "hub":
        _load(backbone, read_state_dict(Path(weights)))
    return backbone.eval()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """State dict of a .safetensors or .pth file, either also compressed with xz."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rb") as file:
        if ".safetensors" in path.suffixes:
            return load_safetensors(file.read())
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


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


def _pad_as_tensorflow(body: nn.Module) -> None:
    for module in body.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.__class__ = SamePadConv2d
            module.padding = (0, 0)


def _load(backbone: Backbone, state: Mapping[str, Tensor]) -> None:
    if any(key.startswith("body.") for key in state):
        backbone.load_state_dict(state)
        return
    known = {name: tensor for name, tensor in state.items() if not name.startswith(("fc.", "classifier."))}
    missing, surplus = backbone.body.load_state_dict(known, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or surplus:
        raise ValueError(f"weights of another network: they lack {missing[:2]} and have {surplus[:2]}")
