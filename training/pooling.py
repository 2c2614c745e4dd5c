"""Activations of a CNN to one vector an image, from its end and from inner blocks.

The end says what is shown, inner blocks say how it is drawn: their channels' means and deviations are texture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_VARIANCE = 1e-5  # keeps the root's slope finite where a channel is constant


class PooledLevels(nn.Module):
    """A convolutional body whose features are pooled from its end and from inner blocks."""

    def __init__(self, features: nn.Sequential, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.features = features
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float [N, 3, S, S] to float [N, D]."""
        return pool_levels(x, self.features, self.levels)


def pool_levels(x: Tensor, blocks: nn.Sequential, levels: tuple[int, ...], first: int = 0) -> Tensor:
    """Run ``blocks`` and pool: mean of the last output, then mean and deviation of each level.

    Args:
        x: float [N, C, h, w], input of the first block.
        blocks: the blocks to run.
        levels: which blocks' outputs are pooled too, counted in the whole body.
        first: number of ``blocks[0]`` in the whole body; level ``first - 1`` is ``x`` itself.
    """
    pooled = [channel_statistics(x)] if first - 1 in levels else []
    for number, block in enumerate(blocks, first):
        x = block(x)
        if number in levels:
            pooled.append(channel_statistics(x))
    return torch.cat([x.mean(dim=(2, 3)), *pooled], dim=1)


def channel_statistics(x: Tensor) -> Tensor:
    """Mean and standard deviation of each channel: float [N, C, h, w] to [N, 2C]."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(2, 3))
    return torch.cat([mean.flatten(1), (variance + MIN_VARIANCE).sqrt()], dim=1)
