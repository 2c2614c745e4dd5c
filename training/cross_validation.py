"""Works held out in turn to metrics one can expect on new works, and the temperature that calibrates them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import NUM_CLASSES, NUM_SUBCATEGORIES
from reelkind.datasets.grouping import group_folds, origin_groups
from reelkind.datasets.sample import Sample
from reelkind.evaluation.measures.metrics import (
    balanced_nll,
    bootstrap_intervals,
    calibration_error,
    fit_temperature,
    score,
    softmax,
)
from reelkind.evaluation.measures.predictions import Predictions
from reelkind.evaluation.measures.subcategories import SubcategoryAnswers
from reelkind.models.folding import Tail
from reelkind.models.head import TemporalHead

from .inputs.features import Activations
from .optimisation.collapse import note_collapse
from .optimisation.tracking import MetricsLog
from .stages import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossValidation:
    """What works held out in turn say of a recipe; without folds, nothing.

    Attributes:
        metrics: for the bundle.
        temperature: fits the predictions best.
        predictions: of every clip by the model that never saw its work.
        subcategories: likewise; None of heads without that output.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    predictions: Predictions | None = None
    subcategories: SubcategoryAnswers | None = None


def cross_validate(trainer: Trainer, tail: Tail, log: MetricsLog) -> CrossValidation:
    """Metrics on the clips of works held out in turn, and the temperature that fits them.

    Args:
        trainer: of the configuration and samples that are divided.
        tail: where each fold's fine-tuning starts.
        log: gets the losses, and a line for each fold.

    Raises:
        DataError: if there are too few works, or a fold would have nothing to test on.
    """
    config, training = trainer.config, trainer.training
    num_folds = config.evaluation.num_folds
    if num_folds < 2:
        return CrossValidation()
    logits = np.zeros((len(training.samples), NUM_CLASSES))
    finer = np.zeros((len(training.samples), NUM_SUBCATEGORIES)) if config.head.subcategory_weight else None
    fold_of = np.zeros(len(training.samples), np.int64)
    clips = training.clip_indices
    for fold in fitted_folds(trainer, tail, log):
        fold_log, tested = log.labelled(run=f"fold {fold.number}"), fold.tested
        logits[tested], second = head_logits(fold.head, [fold.features.of(i) for i in range(len(tested))])
        if finer is not None and second is not None:
            finer[tested] = second
        fold_of[tested] = fold.number
        scores = score(logits[tested], training.labels[tested])
        rounded = {"accuracy": round(scores.accuracy, 4), "macro_f1": round(scores.macro_f1, 4)}
        fold_log.write(stage="fold", fold=fold.number, **rounded)
        note_collapse(fold_log, "held-out clips", scores.confusion)
    labels, groups = training.labels[clips], origin_groups(training.samples)
    logits, fold_of = logits[clips], fold_of[clips]
    scaled = np.zeros_like(logits)
    for number in range(num_folds):
        inside = fold_of == number
        scaled[inside] = softmax(logits[inside], fit_temperature(logits[~inside], labels[~inside]))
    temperature = round(fit_temperature(logits, labels), 3)
    metrics = {
        "what": f"{num_folds} folds by work and repository over the training data, tested on clips only, "
        f"{config.augment.clean_frames_per_clip} frames each, features in {config.finetune.precision}",
        "num_clips": len(clips),
        "num_works": len({groups[i] for i in clips}),
        **score(logits, labels).summary(),
        "interval_95": bootstrap_intervals(
            logits, labels, [groups[i] for i in clips], config.evaluation.num_bootstraps
        ),
        "balanced_nll": round(balanced_nll(scaled, labels), 4),
        "ece_uncalibrated": round(calibration_error(softmax(logits), labels), 4),
        "ece_calibrated": round(calibration_error(scaled, labels), 4),
    }
    samples = [training.samples[i] for i in clips]
    predictions = predictions_of(config.name, samples, logits, temperature)
    said = None if finer is None else SubcategoryAnswers(samples, finer[clips], softmax(logits, temperature))
    return CrossValidation(metrics, temperature, predictions, said)


@dataclass(frozen=True)
class Fold:
    """A model and what it has not seen.

    Attributes:
        number: from 0.
        chosen: samples it was trained on, int64.
        tested: clips of other works and repositories, int64 [n].
        head: what was trained.
        features: float32 [F, D] of the tested clips, by its own backbone; sample 0 is the first of the n.
    """

    number: int
    chosen: np.ndarray
    tested: np.ndarray
    head: TemporalHead
    features: Activations


def fitted_folds(trainer: Trainer, tail: Tail, log: MetricsLog) -> Iterator[Fold]:
    """A model for each fold, trained on everything else.

    Raises:
        DataError: if there are too few works, or a fold would have nothing to test on.
    """
    config, training = trainer.config, trainer.training
    num_folds = config.evaluation.num_folds
    for number, held_out in enumerate(group_folds(training.samples, num_folds, config.seed)):
        chosen = np.setdiff1d(np.arange(len(training.samples)), held_out)
        tested = np.intersect1d(held_out, training.clip_indices)
        if not len(tested):
            raise DataError(f"fold {number} of {num_folds} holds no clip to test on: lower evaluation.num_folds")
        logger.info("fold %d of %d: %d samples, %d clips held out", number + 1, num_folds, len(chosen), len(tested))
        fitted, head = trainer.fit(tail, chosen, log.labelled(run=f"fold {number}"))
        yield Fold(number, chosen, tested, head, trainer.features(fitted, training.clean, tested))


def predictions_of(member: str, samples: Sequence[Sample], logits: np.ndarray, temperature: float) -> Predictions:
    """Logits float [N, K] of N samples, with all that judging them takes."""
    return Predictions(
        member=member,
        names=[f"{sample.source}/{sample.path.parent.name}/{sample.path.name}" for sample in samples],
        logits=logits,
        labels=np.array([sample.label for sample in samples]),
        groups=origin_groups(samples),
        subcategories=[sample.subcategory for sample in samples],
        temperature=temperature,
    )


@torch.inference_mode()
def head_logits(head: TemporalHead, clips: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits float [N, K], and of the second output float [N, 46] if there is one."""
    answers = [head.outputs(torch.from_numpy(clip).float().unsqueeze(0)) for clip in clips]
    logits, _, _, _, *finer = zip(*answers, strict=True)
    return torch.cat(logits).numpy(), torch.cat(finer[0]).numpy() if finer else None
