"""Finished modules to a bundle on disk: FP16 weights, bundle.json and the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from reelkind.core import bundle as bundles
from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, BackboneInfo, Bundle
from reelkind.core.taxonomy import CLASSES

from .config import Config
from .data import Sample, work_groups
from .evaluation.card import CARD_NAME, card
from .models import Backbone, TemporalHead
from .provenance import resolved_config

MAX_FP32_ELEMENTS = 4096  # biases and statistics cost nothing in full precision, and matter most


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Round in place what the bundle stores as FP16, so that metrics measured from now on are those shipped."""
    for tensor in module.state_dict().values():
        if _is_stored_as_half(tensor):
            tensor.copy_(tensor.half())


def half_state(module: nn.Module) -> dict[str, Tensor]:
    """State dict as stored: matrices and kernels FP16, small tensors as they are."""
    return {
        name: (tensor.half() if _is_stored_as_half(tensor) else tensor).contiguous().clone()
        for name, tensor in module.state_dict().items()
    }


def _is_stored_as_half(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and (tensor.ndim > 1 and tensor.numel() > MAX_FP32_ELEMENTS)


def write_bundle(
    folder: Path,
    config: Config,
    backbone: Backbone,
    head: TemporalHead,
    temperature: float,
    metrics: Mapping[str, Any],
    train: Sequence[Sample],
    val: Sequence[Sample],
    run: Mapping[str, Any],
) -> Bundle:
    """Write weights, ``bundle.json`` and the card.

    Args:
        folder: the bundle's folder; created.
        config: the resolved configuration.
        backbone: already rounded by `round_to_half`.
        head: likewise.
        temperature: logits are divided by it.
        metrics: what was measured; ``val``, unless skipped ``cross_validation``, and of heads with that output
            ``subcategory``, as `subcategory_metrics.measure_all` gives it.
        train: what it was trained on.
        val: what it was measured on.
        run: what `provenance.describe_run` tells.

    Returns:
        The bundle as read back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module, name in ((backbone, BACKBONE_WEIGHTS_NAME), (head, HEAD_WEIGHTS_NAME)):
        (folder / name).write_bytes(safetensors.torch.save(half_state(module)))  # save_file() hides it from others
    settings, finer = resolved_config(config), metrics.get("subcategory", {})
    bundle = bundles.save(
        Bundle(
            name=config.name,
            backbone=BackboneInfo(config.backbone.name, backbone.feature_dim, config.backbone.frame_size_px),
            head=head.config,
            num_frames=config.num_frames,
            temperature=temperature,
            trained=True,
            subcategories_learnt=tuple(finer.get("learnt", ())),
            subcategory_temperature=finer.get("temperature", 1.0),
            metrics=metrics,
            provenance={
                "starting_weights": config.backbone.origin or settings["backbone"]["weights"],
                "training_data": _count(train),
                "validation_data": _count(val),
                "split": "by work; whatever shares a show, game or repository with validation was left out of training",
                "run": run,
            },
            config=settings,
        ),
        folder,
    )
    (folder / CARD_NAME).write_text(card(bundle, config.notes), encoding="utf-8")
    return bundle


def _count(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter((sample.source, CLASSES[sample.label]) for sample in samples)
    sources = sorted({source for source, _ in counts})
    return {
        "works": len(set(work_groups(samples))),
        "files": {
            source: {name: counts[source, name] for name in CLASSES if counts[source, name]} for source in sources
        },
    }
