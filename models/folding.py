"""A backbone to its frozen beginning and trainable end, batch norms folded into the convolutions, and back.

Folding makes a MobileNetV2 four times as fast on a CPU. Batch statistics stay those of ImageNet: with a few dozen
works they cannot be measured better.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reelkind.core.errors import ConfigError

from .clip_vit import TokenBody
from .head import Backbone
from .pooling import PooledLevels, StandardisedLinear, pool_levels


class Stem(Backbone):
    """Normalisation and the first blocks: uint8 RGB [N, 3, S, S] to float [N, C, h, w].

    A transformer's gives tokens [N, L, D], and features [N, D] where all its blocks are frozen. Without blocks it gives
    the frames back as they are, and the tail normalises.

    Attributes:
        gives_features: whether nothing is left for the tail to do.
    """

    def __init__(self, backbone: Backbone, num_blocks: int) -> None:
        super().__init__(nn.Sequential(*copy.deepcopy(blocks_of(backbone)[:num_blocks])), feature_dim=0)
        _fold(self.body)
        _copy_normalisation(backbone, self)
        self.gives_features = isinstance(backbone.body, TokenBody) and num_blocks == len(blocks_of(backbone))
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        return super().forward(frames) if len(self.body) else frames  # type: ignore[arg-type]


class Tail(nn.Module):
    """The remaining blocks and average pooling: float [N, C, h, w], what the stem gave, to [N, D].

    A transformer's last block gives [N, D] itself.

    Raises:
        ConfigError: if the backbone has fewer blocks, or a pooled level lies inside those of the stem.
    """

    def __init__(self, backbone: Backbone, num_blocks: int) -> None:
        super().__init__()
        if num_blocks > len(blocks_of(backbone)):
            raise ConfigError(f"{num_blocks} frozen blocks, but the backbone has {len(blocks_of(backbone))}")
        self.blocks = nn.Sequential(*copy.deepcopy(blocks_of(backbone)[num_blocks:]))
        _fold(self.blocks)
        for module in self.blocks.modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                module.__class__ = DepthwiseConv2d
        self.feature_dim = backbone.feature_dim
        self.first = num_blocks
        self.pools = not isinstance(backbone.body, TokenBody)
        self.levels = backbone.body.levels if isinstance(backbone.body, PooledLevels) else ()
        if any(level < num_blocks - 1 for level in self.levels):
            raise ConfigError(f"level {min(self.levels)} lies inside the {num_blocks} frozen blocks, which are cached")
        projection = backbone.body.projection if isinstance(backbone.body, PooledLevels) else nn.Identity()
        self.projection = (
            StandardisedLinear(copy.deepcopy(projection)) if isinstance(projection, nn.Linear) else nn.Identity()
        )
        self.entry: nn.Module = nn.Identity()
        if num_blocks == 0:
            self.entry = Backbone(nn.Identity(), feature_dim=0)  # which only normalises
            _copy_normalisation(backbone, self.entry)

    def forward(self, activations: Tensor) -> Tensor:
        features: Tensor = self.projection(self.pool(activations).float())
        return features

    def pool(self, activations: Tensor) -> Tensor:
        """What the projection, where there is one, is given: float [N, pooled features]."""
        x = self.entry(activations)
        return pool_levels(x, self.blocks, self.levels, self.first) if self.pools else self.blocks(x)

    def train(self, mode: bool = True) -> Tail:
        """Train the weights, but never the statistics of batch norms that could not be folded."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    @torch.no_grad()
    def write_to(self, backbone: Backbone, num_blocks: int) -> None:
        """Give the trained weights back to ``backbone``, whose batch norms then only add a bias."""
        original = nn.Sequential(*blocks_of(backbone)[num_blocks:])
        for (conv, norm), (folded, _) in zip(_pairs(original), _pairs(self.blocks), strict=True):
            conv.weight.copy_(folded.weight)
            assert isinstance(norm, nn.BatchNorm2d)  # ours is the side that was not folded
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert folded.bias is not None
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0)
            norm.weight.fill_((1.0 + norm.eps) ** 0.5)
            norm.bias.copy_(folded.bias)
        if isinstance(self.projection, StandardisedLinear):
            self.projection.write_to(backbone.body.projection)  # type: ignore[arg-type]
        own = self.blocks.state_dict()
        for name, tensor in original.state_dict().items():
            if name in own and own[name].shape == tensor.shape:
                tensor.copy_(own[name])


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution that trains in FP32: CPUs have no fast BF16 kernels for its gradients (35 times slower)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def blocks_of(backbone: Backbone) -> list[nn.Module]:
    """The blocks in order, without pooling and classifier: entries of ``features``, or a ResNet's bottlenecks.

    A transformer's are the embedding, the blocks proper, and the last norm with the choice of the class token.
    """
    body: Any = backbone.body
    if hasattr(body, "features"):
        return list(body.features)
    begin = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
    return [begin, *body.layer1, *body.layer2, *body.layer3, *body.layer4]


def _copy_normalisation(source: Backbone, target: Backbone) -> None:
    target.mean.copy_(source.mean)
    target.std.copy_(source.std)


def _fold(module: nn.Module) -> None:
    for sequence in [found for found in module.modules() if isinstance(found, nn.Sequential)]:
        for i in range(len(sequence) - 1):
            conv, norm = sequence[i], sequence[i + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                sequence[i] = fuse_conv_bn_eval(conv.eval(), norm.eval()).requires_grad_(True)
                sequence[i + 1] = nn.Identity()


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions followed by a batch norm, or by the identity that folding left."""
    for sequence in module.modules():
        if isinstance(sequence, nn.Sequential):
            for first, second in pairwise(sequence):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d | nn.Identity):
                    yield first, second
