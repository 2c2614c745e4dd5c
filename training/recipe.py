"""A configuration and a data folder to a bundle: the whole of ``reelkind train``."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from reelkind.core.bundle import Bundle
from reelkind.core.taxonomy import NUM_CLASSES
from reelkind.core.video import read_clip

from .bundling import round_to_half, write_bundle
from .config import Config
from .data import Sample, group_folds, read_samples, sampling_weights, split_samples, work_groups
from .errors import DataError
from .evaluate import balanced_nll, bootstrap_intervals, calibration_error, fit_temperature, score, softmax
from .features import CLEAN, Activations, ActivationStore
from .folding import Stem, Tail
from .loop import extract, finetune, train_head
from .models import Backbone, TemporalHead, build_backbone
from .optimisation import MetricsLog, average_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSet:
    """Everything the trainable stages see.

    Attributes:
        samples: N of them.
        clean: undamaged activations.
        variants: activations of damaged copies.
        digest: changes with anything the activations depend on.
        cache: folder where fine-tuned tails are kept, so that an interrupted run goes on where it was.
    """

    samples: Sequence[Sample]
    clean: Activations
    variants: Sequence[Activations]
    digest: str
    cache: Path

    @property
    def labels(self) -> np.ndarray:
        """int64 [N]."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    @property
    def clip_indices(self) -> np.ndarray:
        """Where the samples are videos, int64."""
        return np.array([i for i, sample in enumerate(self.samples) if not sample.is_still], dtype=np.int64)


def run(config: Config, data: Path, out: Path, cache: Path) -> Bundle:
    """Train, measure and write a bundle.

    Args:
        config: the resolved configuration.
        data: folder of the sources' folders.
        out: the bundle's folder; created.
        cache: folder of the activation cache; created.

    Raises:
        DataError: if data or starting weights are missing, or too few (``LeakError`` if a split leaks).
    """
    torch.set_num_threads(config.num_threads)
    out.mkdir(parents=True, exist_ok=True)
    log = MetricsLog(out / "metrics.jsonl")
    log.clear()
    samples = read_samples(data, config.data.sources, config.data.optional)
    train, val = split_samples(samples)
    logger.info("%d training and %d validation samples", len(train), len(val))

    backbone = build_backbone(config.backbone.name, _weights(config, data))
    stem = Stem(backbone, config.backbone.frozen_blocks).to(memory_format=torch.channels_last)
    store = ActivationStore(cache, stem, config.backbone, config.augment, config.num_frames, config.seed)
    numbers = [CLEAN, *range(config.augment.num_variants)]
    clean, *variants = store.variants(train, numbers)
    training = TrainingSet(train, clean, variants, store.digest(train), cache)
    tail = Tail(backbone, config.backbone.frozen_blocks)

    cross_validation, temperature = _cross_validate(config, tail, training, log)
    everything = np.arange(len(train))
    tail, head = fit(config, tail, training, everything, config.seed, log)
    tail.write_to(backbone, config.backbone.frozen_blocks)
    round_to_half(backbone)
    round_to_half(head)
    metrics = {"cross_validation": cross_validation, "val": _measure(config, backbone, head, val, temperature)}
    log.write(stage="val", **{key: metrics["val"][key] for key in ("accuracy", "macro_f1")})
    return write_bundle(out, config, backbone, head, temperature, metrics, train, val)


def fit(
    config: Config, tail: Tail, training: TrainingSet, chosen: np.ndarray, seed: int, log: MetricsLog
) -> tuple[Tail, TemporalHead]:
    """Fine-tune the tail on the chosen samples and train a head on what it then gives.

    Args:
        config: the resolved configuration.
        tail: where to start; stays as it is.
        training: the samples and their activations.
        chosen: int64, which samples may be seen.
        seed: of everything random.
        log: gets the losses.
    """
    samples = [training.samples[i] for i in chosen]
    labels, weights = training.labels[chosen], sampling_weights(samples, config.sampling)
    if config.finetune.steps:
        tail = _finetuned(config, tail, training, chosen, weights, seed, log)
    tail.eval()
    seen = [training.clean, *training.variants[: config.head.num_variants]]
    features = [extract(tail, activations.take(chosen)) for activations in seen]
    return tail, train_head(features, labels, weights, config.head, seed, log)


def _finetuned(
    config: Config,
    tail: Tail,
    training: TrainingSet,
    chosen: np.ndarray,
    weights: np.ndarray,
    seed: int,
    log: MetricsLog,
) -> Tail:
    settings = [training.digest, asdict(config.finetune), config.backbone.frozen_blocks, tail.levels, seed]
    settings.append(len(training.variants))
    key = hashlib.sha256(json.dumps(settings).encode() + chosen.tobytes() + weights.tobytes()).hexdigest()[:24]
    path = training.cache / f"tail_{key}.pt"
    result = copy.deepcopy(tail)
    if path.is_file():
        logger.info("fine-tuned before: %s", path)
        result.load_state_dict(torch.load(path, weights_only=True))
        return result
    views = [variant.select(chosen) for variant in (training.clean, *training.variants)]
    labels = training.labels[chosen]
    runs = [
        finetune(tail, views, labels, weights, config.finetune, seed + i, log) for i in range(config.finetune.num_soups)
    ]
    result.load_state_dict(average_weights([run.tail for run in runs]).state_dict())
    torch.save(result.state_dict(), path)
    return result


def _weights(config: Config, data: Path) -> str | Path | None:
    name = config.backbone.weights
    if name in ("", "hub"):
        return name or None
    path = Path(name)
    path = path if path.is_absolute() else data / path
    if not path.is_file():
        raise DataError(f"no starting weights {path} (backbone.weights); 'hub' downloads torchvision's")
    return path


def _cross_validate(config: Config, tail: Tail, training: TrainingSet, log: MetricsLog) -> tuple[dict[str, Any], float]:
    """Metrics on the clips of works held out in turn, and the temperature that fits them."""
    num_folds = config.evaluation.num_folds
    if num_folds < 2:
        return {}, 1.0
    logits = np.zeros((len(training.samples), NUM_CLASSES))
    fold_of = np.zeros(len(training.samples), np.int64)
    clips = training.clip_indices
    for fold, held_out in enumerate(group_folds(training.samples, num_folds, config.seed)):
        chosen = np.setdiff1d(np.arange(len(training.samples)), held_out)
        fitted, head = fit(config, tail, training, chosen, config.seed, log)
        tested = np.intersect1d(held_out, clips)
        features = extract(fitted, training.clean.take(tested))
        logits[tested] = _head_logits(head, [features.of(i) for i in range(len(tested))])
        fold_of[tested] = fold
        log.write(stage="fold", fold=fold, **_brief(logits[tested], training.labels[tested]))
    labels, groups = training.labels[clips], work_groups(training.samples)
    logits, fold_of = logits[clips], fold_of[clips]
    scaled = np.zeros_like(logits)
    for fold in range(num_folds):
        inside = fold_of == fold
        scaled[inside] = softmax(logits[inside], fit_temperature(logits[~inside], labels[~inside]))
    return {
        "what": f"{num_folds} folds by work over the training data, tested on clips only, "
        f"{config.augment.clean_frames_per_clip} frames each, features in BF16",
        "num_clips": len(clips),
        "num_works": len({groups[i] for i in clips}),
        **score(logits, labels).summary(),
        "interval_95": bootstrap_intervals(
            logits, labels, [groups[i] for i in clips], config.evaluation.num_bootstraps
        ),
        "balanced_nll": round(balanced_nll(scaled, labels), 4),
        "ece_uncalibrated": round(calibration_error(softmax(logits), labels), 4),
        "ece_calibrated": round(calibration_error(scaled, labels), 4),
    }, round(fit_temperature(logits, labels), 3)


def _measure(
    config: Config, backbone: Backbone, head: TemporalHead, samples: Sequence[Sample], temperature: float
) -> dict[str, Any]:
    """Metrics of the finished modules on files, read exactly as serving reads them, in FP32."""
    logits = np.concatenate([predict(backbone, head, sample.path, config) for sample in tqdm(samples, desc="val")])
    labels = np.array([sample.label for sample in samples])
    probabilities = softmax(logits, temperature)
    wrong = [sample for sample, row in zip(samples, logits, strict=True) if row.argmax() != sample.label]
    return {
        "num_clips": len(samples),
        "num_works": len(set(work_groups(samples))),
        **score(probabilities, labels).summary(),
        "interval_95": bootstrap_intervals(
            probabilities, labels, work_groups(samples), config.evaluation.num_bootstraps
        ),
        "ece": round(calibration_error(probabilities, labels), 4),
        "wrong": [sample.path.stem for sample in wrong],
    }


@torch.inference_mode()
def predict(backbone: Backbone, head: TemporalHead, path: Path, config: Config) -> np.ndarray:
    """Logits float32 [1, K] of a file."""
    clip = read_clip(path, num_frames=config.num_frames, size_px=config.backbone.frame_size_px)
    features = backbone(torch.from_numpy(clip.frames).permute(0, 3, 1, 2))  # [T, D]
    logits: np.ndarray = head(features.unsqueeze(0))[0].numpy()
    return logits


@torch.inference_mode()
def _head_logits(head: nn.Module, clips: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([head(torch.from_numpy(clip).float().unsqueeze(0))[0].numpy() for clip in clips])


def _brief(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    scores = score(logits, labels)
    return {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}
