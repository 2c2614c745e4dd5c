"""A configuration and a data folder to a bundle: the whole of ``reelkind train``."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from reelkind.core import bundle as bundles
from reelkind.core.bundle import HELD_OUT_NAME, Bundle
from reelkind.core.errors import ConfigError, DataError
from reelkind.datasets.grouping import origin_groups
from reelkind.datasets.sample import Sample
from reelkind.datasets.samples import read_samples, split_samples
from reelkind.datasets.seen import write_seen
from reelkind.evaluation.measures import predictions
from reelkind.evaluation.measures.metrics import bootstrap_intervals, calibration_error, score, softmax
from reelkind.evaluation.measures.predictions import Predictions
from reelkind.evaluation.measures.subcategories import SubcategoryAnswers, measure_all, require_subcategories
from reelkind.evaluation.summary import headline
from reelkind.models import quantising
from reelkind.models.backbones import HUB, WHEEL, build_backbone
from reelkind.models.folding import Stem, Tail
from reelkind.models.head import Backbone, TemporalHead
from reelkind.models.storage import round_as_stored
from reelkind.video.clip import read_clip

from .bundling import write_bundle
from .config import BackboneConfig, Config, DataConfig
from .cross_validation import cross_validate, predictions_of
from .inputs.features import Activations, ActivationStore
from .inputs.frames import CLEAN
from .inputs.sampling import with_few_stills
from .optimisation import distributed
from .optimisation.collapse import final_collapses, note_collapse
from .optimisation.devices import resolve_device
from .optimisation.distilling import refuse_other_frames
from .optimisation.tracking import MetricsLog
from .provenance import describe_run
from .stage_store import StageStore
from .stages import Trainer, TrainingSet

logger = logging.getLogger(__name__)

METRICS_NAME = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


def run(config: Config, data: Path, out: Path, cache: Path, fresh: bool = False) -> Bundle:
    """Train, measure and write a bundle; what an interrupted run with the same arguments did is not done again.

    Under torchrun every process calls this; the first one writes.

    Args:
        config: the resolved configuration.
        data: folder of the sources' folders.
        out: the bundle's folder; created.
        cache: folder of cached activations, checkpoints and fine-tuned tails; created.
        fresh: whether to train again what was trained before. Activations stay cached.

    Raises:
        ConfigError: if the configuration asks for what there is not: a backbone, its weights, a device.
        DataError: if data or starting weights are missing, or too few (``LeakError`` if a split leaks).
        TrainingError: if a training diverges.
    """
    torch.set_num_threads(config.num_threads)
    device, started, seconds = resolve_device(config.device), time.monotonic(), dict[str, float]()
    with distributed.process_group(device):
        train, val = split_samples(chosen_samples(config.data, data))
        require_subcategories(train, config.head.subcategory_weight)
        logger.info("%d training and %d validation samples", len(train), len(val))
        logger.info("backbone %s, weights: %s", config.backbone.name, config.backbone.weights or "random")
        backbone = pretrained(config.backbone, data)
        tail = Tail(backbone, config.backbone.frozen_blocks)
        log, store = _open_log(out), StageStore(cache, config.checkpoint_steps, fresh)
        with _timed(seconds, "activations"):
            training = training_set(config, backbone, train, cache, device)
            if config.distill.weight:
                lessons = _lessons(config, train, data, cache, device)
                refuse_other_frames([training.clean, *training.variants], lessons, tail.feature_dim)
                training = replace(training, lessons=lessons)
        trainer = Trainer(config, training, device, store)
        folds = cross_validate(trainer, tail, log)
        logger.info("the bundle itself: all %d samples", len(train))
        tail, head = trainer.fit(tail, np.arange(len(train)), log.labelled(run="all"))
        if distributed.is_main():
            tail.write_to(backbone, config.backbone.frozen_blocks)
            round_as_stored(backbone, config.backbone.storage)
            round_as_stored(head)
            with _timed(seconds, "validation"):
                said, measured, finer = _measure(config, backbone, head, val, folds.temperature, log)
            seconds |= {**_training_seconds(log.lines), "this run": time.monotonic() - started}
            held_out = said if folds.predictions is None else predictions.joined([folds.predictions, said])
            subcategories = measure_all(train, folds.subcategories, finer, config.evaluation.num_bootstraps)
            metrics = {
                "held_out": _headline(held_out, config),
                "cross_validation": folds.metrics,
                "val": measured,
                **({"subcategory": subcategories} if subcategories else {}),
                "collapsed": final_collapses(log.lines),
            }
            about = describe_run(config, [*train, *val], device, seconds, resumed=bool(store.found))
            write_bundle(out, config, backbone, head, folds.temperature, metrics, train, val, about)
            predictions.save(held_out, out / HELD_OUT_NAME)
            write_seen(out, train)
            log.close()
        distributed.barrier()
        store.clean()
    return bundles.load(out)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def _open_log(out: Path) -> MetricsLog:
    if not distributed.is_main():
        return MetricsLog()
    out.mkdir(parents=True, exist_ok=True)
    log = MetricsLog(out / METRICS_NAME, out / TENSORBOARD_FOLDER)
    log.clear()
    return log


def chosen_samples(wanted: DataConfig, data: Path) -> list[Sample]:
    """Every sample that a configuration asks for, of all splits.

    Raises:
        DataError: if a manifest or the second reading is missing or malformed.
    """
    samples = read_samples(data, wanted.sources, wanted.optional, wanted.readings)
    limit = wanted.stills_per_subcategory
    return samples if limit < 0 else with_few_stills(samples, limit)


def training_set(
    config: Config, backbone: Backbone, train: Sequence[Sample], cache: Path, device: torch.device
) -> TrainingSet:
    stem = Stem(backbone, config.backbone.frozen_blocks).to(device).to(memory_format=torch.channels_last)
    store = ActivationStore(
        cache, stem, config.backbone, config.augment, config.num_frames, config.seed, config.num_workers
    )
    with distributed.main_first():
        clean, *variants = store.variants(train, [CLEAN, *range(config.augment.num_variants)])
    return TrainingSet(train, clean, variants, store.digest(train))


def _lessons(config: Config, samples: Sequence[Sample], data: Path, cache: Path, device: torch.device) -> Activations:
    """What the teacher says of the undamaged frames that every variant shows."""
    settings = config.distill.teacher
    teacher = pretrained(settings, data)
    stem = Stem(teacher, settings.frozen_blocks).to(device)
    if not stem.gives_features:
        raise ConfigError(f"distill.teacher.frozen_blocks = {settings.frozen_blocks} leaves the teacher unfinished")
    store = ActivationStore(cache, stem, settings, config.augment, config.num_frames, config.seed, config.num_workers)
    with distributed.main_first():
        return store.clean(samples)


def pretrained(settings: BackboneConfig, data: Path) -> Backbone:
    """The backbone that training starts from, its weights already rounded where they will be stored so."""
    backbone = build_backbone(settings.name, _weights(settings.weights, data), settings.frame_size_px)
    if settings.storage == "int8":
        quantising.prepare(backbone, settings.frame_size_px)
    return backbone


def _weights(name: str, data: Path) -> str | Path | None:
    if name in ("", HUB, WHEEL):
        return name or None
    path = Path(name)
    path = path if path.is_absolute() else data / path
    if not path.is_file():
        raise DataError(f"no starting weights {path} (backbone.weights); 'hub' downloads torchvision's")
    return path


def _training_seconds(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Wall time of each kind of training, over all folds and soups, interrupted parts included."""
    last = {(line.get("run"), line.get("soup"), line["stage"]): line["seconds"] for line in lines if "seconds" in line}
    totals: dict[str, float] = {}
    for (_, _, stage), value in last.items():
        totals[stage] = totals.get(stage, 0.0) + value
    return totals


def _measure(
    config: Config,
    backbone: Backbone,
    head: TemporalHead,
    samples: Sequence[Sample],
    temperature: float,
    log: MetricsLog,
) -> tuple[Predictions, dict[str, Any], SubcategoryAnswers | None]:
    """What the finished modules say of files, read exactly as serving reads them, in FP32, and how good it is.

    Last come subcategories, of heads that have that output.
    """
    answers = [predict(backbone, head, sample.path, config) for sample in tqdm(samples, desc="val", disable=None)]
    logits, embeddings = (np.concatenate(parts) for parts in zip(*answers, strict=True))
    labels = np.array([sample.label for sample in samples])
    probabilities = softmax(logits, temperature)
    scores = score(probabilities, labels)
    log.write(stage="val", accuracy=round(scores.accuracy, 4), macro_f1=round(scores.macro_f1, 4))
    note_collapse(log, "validation clips", scores.confusion)
    wrong = [sample for sample, row in zip(samples, logits, strict=True) if row.argmax() != sample.label]
    measured = {
        "num_clips": len(samples),
        "num_works": len(set(origin_groups(samples))),
        **scores.summary(),
        "interval_95": bootstrap_intervals(
            probabilities, labels, origin_groups(samples), config.evaluation.num_bootstraps
        ),
        "ece": round(calibration_error(probabilities, labels), 4),
        "wrong": [sample.path.stem for sample in wrong],
    }
    finer = SubcategoryAnswers(samples, _finer_logits(head, embeddings), probabilities) if _has_finer(head) else None
    return predictions_of(config.name, samples, logits, temperature), measured, finer


def _headline(held_out: Predictions, config: Config) -> dict[str, Any]:
    """Of every clip, training's and validation's, each judged by a model that never saw its work."""
    probabilities = held_out.probabilities()
    found = headline(probabilities, held_out.labels, held_out.groups, config.evaluation.num_bootstraps)
    return {**found, "ece": round(calibration_error(probabilities, held_out.labels), 4)}


def _has_finer(head: TemporalHead) -> bool:
    return head.config.num_subcategories > 0


@torch.inference_mode()
def _finer_logits(head: TemporalHead, embeddings: np.ndarray) -> np.ndarray:
    logits: np.ndarray = head.classify_subcategories(torch.from_numpy(embeddings)).numpy()
    return logits


@torch.inference_mode()
def predict(backbone: Backbone, head: TemporalHead, path: Path, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Logits float32 [1, K] and embedding float32 [1, E] of a file."""
    clip = read_clip(path, num_frames=config.num_frames, size_px=config.backbone.frame_size_px)
    features = backbone(torch.from_numpy(clip.frames).permute(0, 3, 1, 2))  # [T, D]
    logits, _, embedding = head(features.unsqueeze(0))
    return logits.numpy(), embedding.numpy()
