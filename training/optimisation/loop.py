"""Cached activations to a fine-tuned backbone, and cached features to a temporal head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelkind.core.taxonomy.classes import NUM_CLASSES, subcategories
from reelkind.models.folding import Tail
from reelkind.models.head import HeadConfig, TemporalHead

from ..config import FinetuneConfig, HeadTrainConfig
from ..inputs.features import Activations, as_inputs
from .checkpointing import Checkpoint
from .devices import CPU, autocast
from .distilling import Lessons, start_projection
from .losses import focal_loss, mix, smooth_targets
from .optimise import optimise
from .tracking import MetricsLog

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

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """Activations float [N, C, h, w] to logits float32 [N, K] and features float32 [N, D]."""
        features = self.tail(activations)
        return self.classifier(self.dropout((features - self.mean) / self.std)), features

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
    log: MetricsLog | None = None,
    checkpoint: Checkpoint | None = None,
    device: torch.device = CPU,
    lessons: Lessons | None = None,
    lesson_weight: float = 0.0,
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
        checkpoint: where an interrupted training goes on.
        device: where it trains.
        lessons: what a teacher says of every frame of every sample, whatever the variant; None without one.
        lesson_weight: of the error to them.

    Returns:
        The moving average of the weights, in evaluation mode, on the CPU.

    Raises:
        ConfigError: if there are lessons and the tail has no projection.
    """
    rng = _seed_everything(seed)
    tail = copy.deepcopy(tail)
    if lessons:
        start_projection(tail, variants, lessons, rng)
    model = FrameClassifier(tail, config.dropout)
    model = model.to(device).to(memory_format=torch.channels_last)
    groups = _finetune_groups(model, config)
    tail_groups = groups[:-1]
    start = [[parameter.detach().clone() for parameter in group["params"]] for group in tail_groups]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)

    def draw() -> tuple[Tensor, ...]:
        chosen = rng.choice(len(labels), config.batch_size, p=weights)
        places = [_random_place(variants, i, rng) for i in chosen]
        frames = np.stack([variants[v].of(i)[j] for v, i, j in places])
        batch: tuple[Tensor, ...] = (
            as_inputs(frames),
            smooth_targets(torch.from_numpy(labels[chosen]), NUM_CLASSES, config.label_smoothing),
        )
        if lessons:
            wanted = np.stack([lessons.features.of(i)[j] for _, i, j in places])
            batch = (*batch, torch.from_numpy(wanted).float())
        if config.mixup and rng.random() < config.mixup_probability:
            order = torch.from_numpy(rng.permutation(config.batch_size))
            batch = mix(batch, rng.beta(config.mixup, config.mixup), order)
        return batch

    model.standardise(torch.cat([draw()[0] for _ in range(STANDARDISING_BATCHES)]).to(device))

    def compute_loss(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        inputs, targets, *wanted = batch
        with autocast(device, config.precision):
            logits, features = network(inputs)
        loss = focal_loss(logits.float(), targets, config.focal_gamma)
        if lessons:
            loss = loss + lesson_weight * lessons.error(features.float(), wanted[0])
        return loss, logits

    def pull_back() -> None:
        for group, origin in zip(optimizer.param_groups[:-1], start, strict=True):
            torch._foreach_lerp_(group["params"], origin, group["lr"] * config.pull)

    trained = optimise(model, optimizer, draw, compute_loss, config, rng, "finetune", log, pull_back, checkpoint)
    with torch.no_grad():
        origins = [parameter for origin in start for parameter in origin]
        torch._foreach_lerp_(list(trained.tail.parameters()), origins, 1 - config.blend)
    return trained.to(CPU)


def _seed_everything(seed: int) -> np.random.Generator:
    """Generator of the samples, the same in all processes; torch's, which drops neurons, is each process's own."""
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def _finetune_groups(model: FrameClassifier, config: FinetuneConfig) -> list[dict[str, Any]]:
    """A group for each block of the tail, from the first on, then one for the classifier."""
    blocks = [list(block.parameters()) for block in model.tail.blocks]
    decays = [config.layer_decay**depth for depth in reversed(range(len(blocks)))]
    blocks.append(list(model.tail.projection.parameters()))
    groups = [
        {"params": parameters, "weight_decay": 0.0, "rate": decay}
        for parameters, decay in zip(blocks, [*decays, 1.0], strict=True)
        if parameters
    ]
    classifier = list(model.classifier.parameters())
    return [*groups, {"params": classifier, "weight_decay": 0.05, "rate": config.classifier_rate}]


class _TwoOutputs(nn.Module):
    """A head as it is trained: one forward pass gives both outputs, so that processes can share its gradients."""

    def __init__(self, head: TemporalHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        logits, _, embedding = self.head(features)
        return (
            (logits, self.head.classify_subcategories(embedding)) if self.head.config.num_subcategories else (logits,)
        )


def train_head(
    variants: Sequence[Activations],
    labels: np.ndarray,
    weights: np.ndarray,
    config: HeadTrainConfig,
    seed: int,
    log: MetricsLog | None = None,
    checkpoint: Checkpoint | None = None,
    device: torch.device = CPU,
    subcategory_labels: np.ndarray | None = None,
) -> TemporalHead:
    """Train a temporal head on features float [F, D]; stills become clips that repeat one frame.

    Args:
        variants: features of copies of the samples; a step draws samples, then a variant for each.
        labels: int64 [N].
        weights: float [N], probability of drawing each sample.
        config: how.
        seed: of initialisation, sampling and dropout.
        log: gets a line every 25 steps.
        checkpoint: where an interrupted training goes on.
        device: where it trains.
        subcategory_labels: int64 [N], place in the taxonomy, -1 for unknown; needed if ``subcategory_weight`` is not 0.

    Returns:
        The moving average of the weights, in evaluation mode, on the CPU; takes features as they are, not
        standardised.

    Raises:
        ValueError: if subcategories are to be learned and there are no labels of them.
    """
    if config.subcategory_weight and subcategory_labels is None:
        raise ValueError("a subcategory_weight needs subcategory_labels")
    rng = _seed_everything(seed)
    stacked = np.concatenate([variant.values for variant in variants]).astype(np.float32)
    mean, std = stacked.mean(axis=0), stacked.std(axis=0) + STD_FLOOR
    num_subcategories = len(subcategories()) if config.subcategory_weight else 0
    sizes = HeadConfig(
        feature_dim=stacked.shape[1],
        width=config.width,
        num_layers=config.num_layers,
        num_attention_heads=config.num_attention_heads,
        dropout=config.dropout,
        num_subcategories=num_subcategories,
    )
    model = _TwoOutputs(TemporalHead(sizes)).to(device)
    optimizer = torch.optim.AdamW(
        [{"params": list(model.parameters()), "rate": 1.0}], lr=config.learning_rate, weight_decay=config.weight_decay
    )

    def draw() -> tuple[Tensor, ...]:
        chosen = rng.choice(len(labels), config.batch_size, p=weights)
        clips = np.stack([_random_sequence(variants, i, config, rng) for i in chosen])
        inputs = torch.from_numpy(((clips - mean) / std).astype(np.float32))  # [N, T, D]
        inputs = inputs + config.feature_noise * torch.randn_like(inputs)
        batch: tuple[Tensor, ...] = (
            inputs,
            smooth_targets(torch.from_numpy(labels[chosen]), NUM_CLASSES, config.label_smoothing),
        )
        if subcategory_labels is not None and num_subcategories:
            finer = torch.from_numpy(subcategory_labels[chosen])
            batch = (*batch, smooth_targets(finer, num_subcategories, config.label_smoothing))
        if config.mixup:
            order = torch.from_numpy(rng.permutation(config.batch_size))
            batch = mix(batch, rng.beta(config.mixup, config.mixup), order)
        return batch

    def compute_loss(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        inputs, *targets = batch
        with autocast(device, config.precision):
            outputs = network(inputs)
        losses = [
            focal_loss(logits.float(), wanted, config.focal_gamma)
            for logits, wanted in zip(outputs, targets, strict=True)
        ]
        loss = losses[0] + config.subcategory_weight * losses[1] if num_subcategories else losses[0]
        return loss, outputs[0]

    trained = optimise(model, optimizer, draw, compute_loss, config, rng, "head", log, checkpoint=checkpoint)
    head = trained.head.cpu()
    _absorb_standardisation(head, torch.from_numpy(mean), torch.from_numpy(std))
    return head


def _random_place(variants: Sequence[Activations], sample: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Number of a variant, the sample, and number of a frame of it."""
    variant = int(rng.integers(len(variants)))
    return variant, sample, int(rng.integers(len(variants[variant].of(sample))))


def _random_sequence(
    variants: Sequence[Activations], sample: int, config: HeadTrainConfig, rng: np.random.Generator
) -> np.ndarray:
    """Features [T, D] in order: one from each of T equal segments of a random variant, or of a stretch of it."""
    frames = variants[int(rng.integers(len(variants)))].of(sample)
    if config.stride_jitter:
        length = max(1, round(len(frames) * (1 - config.stride_jitter * rng.random())))
        start = int(rng.integers(len(frames) - length + 1))
        frames = frames[start : start + length]
    chosen = [int((i + rng.random()) * len(frames) / config.num_frames) for i in range(config.num_frames)]
    sequence: np.ndarray = frames[chosen]
    return sequence


@torch.no_grad()
def _absorb_standardisation(head: TemporalHead, mean: Tensor, std: Tensor) -> None:
    """Make the projection of raw features equal to that of standardised ones."""
    head.projection.weight.div_(std)
    head.projection.bias.sub_(head.projection.weight @ mean)
