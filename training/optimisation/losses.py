"""Logits and soft targets to one number."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """One-hot rows with ``smoothing`` of their mass spread over all classes.

    Args:
        labels: int64 [N]; -1 stands for unknown and makes a row of zeros, which no loss counts.
        num_classes: K.
        smoothing: in [0, 1).

    Returns:
        float32 [N, K], rows sum to 1.
    """
    one_hot = functional.one_hot(labels.clamp(min=0), num_classes).float()
    return (one_hot * (1 - smoothing) + smoothing / num_classes) * (labels >= 0).unsqueeze(1)


def mix(batch: tuple[Tensor, ...], share: float, order: Tensor) -> tuple[Tensor, ...]:
    """Mixup (arXiv:1710.09412): every sample with the one ``order`` puts in its place, clips as wholes.

    Args:
        batch: inputs and targets, float [N, ...] each.
        share: of the sample itself, in [0, 1].
        order: int64 [N], a permutation.
    """
    return tuple(share * tensor + (1 - share) * tensor[order] for tensor in batch)


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 0.0) -> Tensor:
    """Focal loss (arXiv:1708.02002) for soft targets; ``gamma`` 0 is the cross-entropy.

    Args:
        logits: float [N, K].
        targets: float [N, K], rows sum to 1.
        gamma: how strongly confident classes are played down.

    Returns:
        Mean over the batch, a scalar.
    """
    log_probabilities = logits.log_softmax(dim=-1)
    focus = (1 - log_probabilities.exp()).clamp(min=0) ** gamma if gamma else torch.ones_like(logits)
    return -(targets * focus * log_probabilities).sum(dim=-1).mean()
