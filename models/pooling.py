"""Activations of a CNN to one vector an image, from its end and from inner blocks.

The end says what is shown, inner blocks say how it is drawn: their channels' means and deviations are texture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MIN_VARIANCE = 1e-5  # keeps the root's slope finite where a channel is constant
STD_FLOOR = 1e-3  # of a pooled feature: what never varies is not blown up


class PooledLevels(nn.Module):
    """A convolutional body whose features are pooled from its end and from inner blocks.

    Attributes:
        features: the blocks.
        levels: which of them are pooled beside the last.
        projection: what the pooled vector passes at the end; a linear map where a teacher was listened to.
    """

    def __init__(self, features: nn.Sequential, levels: tuple[int, ...], projection: nn.Module | None = None) -> None:
        super().__init__()
        self.features = features
        self.levels = levels
        self.projection = projection or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float [N, 3, S, S] to float [N, D]."""
        features: Tensor = self.projection(pool_levels(x, self.features, self.levels))
        return features


class StandardisedLinear(nn.Module):
    """A linear map of standardised inputs, so that all its weights are of one size while they are trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("mean", torch.zeros(linear.in_features))
        self.register_buffer("std", torch.ones(linear.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, in] to float [N, out]."""
        mapped: Tensor = self.linear((x - self.mean) / self.std)
        return mapped

    @torch.no_grad()
    def fit(self, given: Tensor, wanted: Tensor, ridge: float) -> None:
        """Become the ridge regression from one to the other.

        Args:
            given: float32 [N, in].
            wanted: float32 [N, out].
            ridge: what is added to the variances of the standardised inputs.
        """
        self.mean.copy_(given.mean(dim=0))
        self.std.copy_(given.std(dim=0) + STD_FLOOR)
        inputs, offset = ((given - self.mean) / self.std).double(), wanted.double().mean(dim=0)
        covariance = inputs.T @ inputs / len(inputs) + ridge * torch.eye(inputs.shape[1], dtype=torch.float64)
        weight = torch.linalg.solve(covariance, inputs.T @ (wanted.double() - offset) / len(inputs))
        self.linear.weight.copy_(weight.T)
        self.linear.bias.copy_(offset)

    @torch.no_grad()
    def write_to(self, linear: nn.Linear) -> None:
        """Make a plain layer compute the same of inputs as they are."""
        weight = self.linear.weight / self.std
        linear.weight.copy_(weight)
        linear.bias.copy_(self.linear.bias - weight @ self.mean)


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
