"""Cached activations to a fine-tuned backbone, and cached features to a temporal head."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from reelkind.core.taxonomy import NUM_CLASSES

from .config import FinetuneConfig, HeadTrainConfig
from .features import Activations
from .folding import Tail
from .losses import focal_loss, mix, smooth_targets
from .models import HeadConfig, TemporalHead
from .optimisation import NO_LOG, MetricsLog, optimise

STANDARDISING_BATCHES = 8
STD_FLOOR = 0.05  # of features: what hardly varies in training must not be blown up by standardising


class FrameClassifier(nn.Module):
    """The tail with a linear classifier on top, for as long as the tail is trained."""

    mean: Tensor
    std: Tensor

    def __init__(self, tail: Tail, dropout: float) -> None:
        super().__init__()
        self.tail = tail
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean", torch.zeros(tail.feature_dim))
        self.register_buffer("std", torch.ones(tail.feature_dim))
        self.classifier = nn.Linear(tail.feature_dim, NUM_CLASSES)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, activations: Tensor) -> Tensor:
        """Activations float [N, C, h, w] to logits float32 [N, K]."""
        logits: Tensor = self.classifier(self.dropout((self.tail(activations) - self.mean) / self.std))
        return logits

    @torch.no_grad()
    def standardise(self, activations: Tensor) -> None:
        """Give features of these activations zero mean and unit variance before the classifier."""
        features = self.tail(activations)
        self.mean.copy_(features.mean(dim=0))
        self.std.copy_(features.std(dim=0) + STD_FLOOR)


def finetune(
    tail: Tail,
    variants: Sequence[Activations],
    labels: np.ndarray,
    weights: np.ndarray,
    config: FinetuneConfig,
    seed: int,
    log: MetricsLog = NO_LOG,
) -> FrameClassifier:
    """Train a copy of ``tail`` on single frames.

    Args:
        tail: stays as it is; also the point that L2-SP pulls towards.
        variants: damaged copies of the samples; a step draws samples, then a variant and a frame of each.
        labels: int64 [N].
        weights: float [N], probability of drawing each sample.
        config: how.
        seed: of initialisation, sampling and dropout.
        log: gets a line every 25 steps.

    Returns:
        The moving average of the weights, in evaluation mode.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = FrameClassifier(copy.deepcopy(tail), config.dropout).to(memory_format=torch.channels_last)
    tail_weights: list[Tensor] = list(model.tail.parameters())
    start = [parameter.detach().clone() for parameter in tail_weights]
    optimizer = torch.optim.AdamW(
        [
            {"params": tail_weights, "weight_decay": 0.0, "rate": 1.0},
            {"params": list(model.classifier.parameters()), "weight_decay": 0.05, "rate": config.classifier_rate},
        ],
        lr=config.learning_rate,
    )

    def draw() -> tuple[Tensor, Tensor]:
        chosen = rng.choice(len(labels), config.batch_size, p=weights)
        frames = np.stack([_random_frame(variants, i, rng) for i in chosen])
        inputs = torch.from_numpy(frames).float().permute(0, 3, 1, 2)
        targets = smooth_targets(torch.from_numpy(labels[chosen]), NUM_CLASSES, config.label_smoothing)
        if config.mixup and rng.random() < config.mixup_probability:
            order = torch.from_numpy(rng.permutation(config.batch_size))
            inputs, targets = mix(inputs, targets, rng.beta(config.mixup, config.mixup), order)
        return inputs.contiguous(memory_format=torch.channels_last), targets

    model.standardise(torch.cat([draw()[0] for _ in range(STANDARDISING_BATCHES)]))

    def compute_loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            logits = model(inputs)
        return focal_loss(logits.float(), targets, config.focal_gamma)

    def pull_back() -> None:
        torch._foreach_lerp_(tail_weights, start, optimizer.param_groups[0]["lr"] * config.pull)

    trained = optimise(model, optimizer, draw, compute_loss, config, log, "finetune", after_step=pull_back)
    with torch.no_grad():
        torch._foreach_lerp_(list(trained.tail.parameters()), start, 1 - config.blend)
    return trained


@torch.inference_mode()
def extract(tail: Tail, activations: Activations, batch_size: int = 64, bfloat16: bool = True) -> Activations:
    """Features float32 [F, D] of activations float16 [F, h, w, C]."""
    parts = []
    for start in range(0, len(activations.values), batch_size):
        values = torch.from_numpy(np.array(activations.values[start : start + batch_size])).float()
        inputs = values.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            parts.append(tail(inputs).float().numpy())
    return Activations(np.concatenate(parts), activations.starts, activations.stops)


def train_head(
    variants: Sequence[Activations],
    labels: np.ndarray,
    weights: np.ndarray,
    config: HeadTrainConfig,
    seed: int,
    log: MetricsLog = NO_LOG,
) -> TemporalHead:
    """Train a temporal head on features float [F, D]; stills become clips that repeat one frame.

    Args:
        variants: features of copies of the samples; a step draws samples, then a variant for each.
        labels: int64 [N].
        weights: float [N], probability of drawing each sample.
        config: how.
        seed: of initialisation, sampling and dropout.
        log: gets a line every 25 steps.

    Returns:
        The moving average of the weights, in evaluation mode; takes features as they are, not standardised.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    stacked = np.concatenate([variant.values for variant in variants]).astype(np.float32)
    mean, std = stacked.mean(axis=0), stacked.std(axis=0) + STD_FLOOR
    sizes = HeadConfig(stacked.shape[1], config.width, config.num_layers, config.num_attention_heads, config.dropout)
    model = TemporalHead(sizes)
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters()), "rate": 1.0}], lr=config.learning_rate, weight_decay=config.weight_decay
    )

    def draw() -> tuple[Tensor, Tensor]:
        chosen = rng.choice(len(labels), config.batch_size, p=weights)
        clips = np.stack([_random_sequence(variants, i, config.num_frames, rng) for i in chosen])
        inputs = torch.from_numpy(((clips - mean) / std).astype(np.float32))  # [N, T, D]
        inputs = inputs + config.feature_noise * torch.randn_like(inputs)
        targets = smooth_targets(torch.from_numpy(labels[chosen]), NUM_CLASSES, config.label_smoothing)
        if config.mixup:
            order = torch.from_numpy(rng.permutation(config.batch_size))
            inputs, targets = mix(inputs, targets, rng.beta(config.mixup, config.mixup), order)
        return inputs, targets

    def compute_loss(inputs: Tensor, targets: Tensor) -> Tensor:
        return focal_loss(model(inputs)[0], targets, config.focal_gamma)

    head = optimise(model, optimizer, draw, compute_loss, config, log, "head")
    _absorb_standardisation(head, torch.from_numpy(mean), torch.from_numpy(std))
    return head


def _random_frame(variants: Sequence[Activations], sample: int, rng: np.random.Generator) -> np.ndarray:
    frames = variants[int(rng.integers(len(variants)))].of(sample)
    frame: np.ndarray = frames[rng.integers(len(frames))]
    return frame


def _random_sequence(
    variants: Sequence[Activations], sample: int, num_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Features [T, D] in order: one from each of T equal segments of a random variant."""
    frames = variants[int(rng.integers(len(variants)))].of(sample)
    chosen = [int((i + rng.random()) * len(frames) / num_frames) for i in range(num_frames)]
    sequence: np.ndarray = frames[chosen]
    return sequence


@torch.no_grad()
def _absorb_standardisation(head: TemporalHead, mean: Tensor, std: Tensor) -> None:
    """Make the projection of raw features equal to that of standardised ones."""
    head.projection.weight.div_(std)
    head.projection.bias.sub_(head.projection.weight @ mean)
