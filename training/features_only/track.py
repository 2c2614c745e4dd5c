"""YouTube-8M's frame features to a trained temporal head and its measure, without fetching one video."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reelkind.core.bundle import HEAD_WEIGHTS_NAME, MANIFEST_NAME
from reelkind.core.errors import DataError
from reelkind.core.files.whole_files import write_whole
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.core.timing.clips import segment_middles
from reelkind.evaluation.card import CARD_NAME
from reelkind.evaluation.measures.metrics import (
    balanced_nll,
    bootstrap_intervals,
    calibration_error,
    fit_temperature,
    recalls,
    score,
    softmax,
)
from reelkind.models.head import TemporalHead
from reelkind.models.storage import round_as_stored, stored_state, write_state

from ..inputs.features import Activations
from ..optimisation.loop import train_head
from ..optimisation.tracking import MetricsLog
from .feature_sets import FeatureSet, read_feature_sets
from .track_card import LABEL, track_card
from .track_config import FeaturesConfig

logger = logging.getLogger(__name__)

DESCRIPTION_NAME = "features.json"
VIDEOS_PER_BATCH = 256


def run(config: FeaturesConfig, data: Path, out: Path) -> dict[str, Any]:
    """Train, measure, and write head, description and card.

    Args:
        config: the resolved configuration.
        data: folder of frame-level shards; ``validate*`` ones are the test set.
        out: folder of head.safetensors, features.json, README.md and metrics.jsonl; created. It is no bundle: the
            backbone that makes these features is not ours to give.

    Returns:
        What features.json holds.

    Raises:
        DataError: if there are too few data, or ``out`` holds a bundle.
    """
    if (out / MANIFEST_NAME).exists():
        raise DataError(f"{out} holds a bundle, which this would not replace but mix with: give another --out")
    torch.set_num_threads(config.num_threads)
    sets = read_feature_sets(data, config.data, config.seed)
    logger.info("%s", {split: len(videos.videos) for split, videos in sets.items()})
    out.mkdir(parents=True, exist_ok=True)
    log = MetricsLog(out / "metrics.jsonl")
    log.clear()
    head = _train(config, sets["train"], log)
    round_as_stored(head)
    text = json.dumps(_describe(config, sets, head), indent=2, ensure_ascii=False)
    description: dict[str, Any] = json.loads(text)
    write_state(out / HEAD_WEIGHTS_NAME, stored_state(head))
    write_whole(out / DESCRIPTION_NAME, text + "\n")
    write_whole(out / CARD_NAME, track_card(description, config.notes))
    return description


def _train(config: FeaturesConfig, videos: FeatureSet, log: MetricsLog) -> TemporalHead:
    counts = [len(video.quantised) for video in videos.videos]
    values = np.empty((sum(counts), videos.videos[0].quantised.shape[1]), np.float16)
    activations = Activations.of_counts(values, counts)
    for i, video in enumerate(videos.videos):
        activations.of(i)[:] = video.features
    labels = videos.labels
    weights = 1 / np.bincount(labels, minlength=len(CLASSES))[labels]  # classes have equal shares
    return train_head(
        [activations],
        labels,
        weights / weights.sum(),
        config.head,
        config.seed,
        log=log,
        subcategory_labels=videos.subcategory_labels,
    )


def _describe(config: FeaturesConfig, sets: Mapping[str, FeatureSet], head: TemporalHead) -> dict[str, Any]:
    outputs = {split: _predict(head, sets[split], config.num_frames) for split in ("val", "test") if sets[split].videos}
    temperature = round(fit_temperature(outputs["val"][0], sets["val"].labels), 3)
    settings = asdict(config)
    del settings["notes"]  # the card has them
    return {
        "label": LABEL,
        "name": config.name,
        "classes": list(CLASSES),
        "num_frames": config.num_frames,
        "temperature": temperature,
        "head": asdict(head.config),
        "metrics": {
            split: _measure(config, sets[split], logits, finer, temperature)
            for split, (logits, finer) in outputs.items()
        },
        "provenance": {
            split: {
                "videos": len(videos.videos),
                "classes": dict(Counter(CLASSES[label] for label in videos.labels)),
                "sha256": videos.digest(),
            }
            for split, videos in sets.items()
        },
        "config": settings,
    }


@torch.inference_mode()
def _predict(head: TemporalHead, videos: FeatureSet, num_frames: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits float32 [N, K] of classes, and [N, 46] of subcategories if the head has that output."""
    logits, finer = [], []
    for start in range(0, len(videos.videos), VIDEOS_PER_BATCH):
        batch = [
            video.features[segment_middles(0, len(video.quantised), num_frames)]
            for video in videos.videos[start : start + VIDEOS_PER_BATCH]
        ]
        scores, _, embedding = head(torch.from_numpy(np.stack(batch)))
        logits.append(scores.numpy())
        if head.config.num_subcategories:
            finer.append(head.classify_subcategories(embedding).numpy())
    return np.concatenate(logits), np.concatenate(finer) if finer else None


def _measure(
    config: FeaturesConfig, videos: FeatureSet, logits: np.ndarray, finer: np.ndarray | None, temperature: float
) -> dict[str, Any]:
    labels, probabilities = videos.labels, softmax(logits, temperature)
    ids = [video.id for video in videos.videos]
    metrics = {
        "num_videos": len(ids),
        "majority_accuracy": round(float(np.bincount(labels).max() / len(labels)), 4),
        **score(probabilities, labels).summary(),
        "interval_95": bootstrap_intervals(probabilities, labels, ids, config.num_bootstraps),
        "balanced_nll": round(balanced_nll(probabilities, labels), 4),
        "ece": round(calibration_error(probabilities, labels), 4),
        "subcategories": recalls(logits.argmax(axis=1) == labels, videos.subcategory_names),
    }
    if finer is not None:
        metrics["subcategory_accuracy"] = round(float((finer.argmax(axis=1) == videos.subcategory_labels).mean()), 4)
    return metrics
