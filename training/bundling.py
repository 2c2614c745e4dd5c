"""Finished modules to a bundle on disk: weights, bundle.json and the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelkind.core import bundle as bundles
from reelkind.core.bundle import HEAD_WEIGHTS_NAME, BackboneInfo, Bundle
from reelkind.core.files.whole_files import write_whole
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.datasets.grouping import work_groups
from reelkind.datasets.sample import Sample
from reelkind.evaluation.card import CARD_NAME, card
from reelkind.models.head import Backbone, TemporalHead
from reelkind.models.storage import stored_state, write_backbone, write_state

from .config import Config
from .provenance import resolved_config


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
        backbone: already rounded by `storage.round_as_stored`.
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
    weights = write_backbone(folder, backbone, config.backbone.storage)
    write_state(folder / HEAD_WEIGHTS_NAME, stored_state(head))
    settings, finer = resolved_config(config), metrics.get("subcategory", {})
    bundle = bundles.save(
        Bundle(
            name=config.name,
            backbone=BackboneInfo(
                config.backbone.name,
                backbone.feature_dim,
                config.backbone.frame_size_px,
                config.backbone.storage,
                weights,
            ),
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
    write_whole(folder / CARD_NAME, card(bundle, config.notes))
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
