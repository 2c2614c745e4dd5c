"""How much of a recipe's figures is chance, and how few frames do: cross-validation over several seeds.

    python -m reelkind.benchmarks.accuracy.seeds training/configs/clip.toml --data DATA --seeds 0 1 2 --frames 1 2 4

A seed decides how works and repositories are divided into folds and everything random in training. Each fold's head,
trained as the recipe says, is asked about the clips it has not seen with all of their cached frames and with fewer,
the middle ones of equal parts; and a multinomial regression on the mean of the same features is trained on the same
samples. Of each seed there is also the head trained on everything, asked about validation's files as they are served.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from reelkind.benchmarks import environment
from reelkind.core.errors import ConfigError
from reelkind.core.files.user_cache import user_cache
from reelkind.core.files.whole_files import write_json
from reelkind.core.taxonomy.classes import CLASSES, NUM_CLASSES
from reelkind.core.timing.clips import segment_middles
from reelkind.datasets.grouping import origin_groups
from reelkind.datasets.sample import Sample
from reelkind.datasets.samples import split_samples
from reelkind.evaluation.measures.metrics import bootstrap_intervals, score
from reelkind.models.folding import Tail
from reelkind.models.head import Backbone
from reelkind.models.storage import round_as_stored
from reelkind.training.config import Config, load_config
from reelkind.training.cross_validation import fitted_folds, head_logits
from reelkind.training.inputs.sampling import sampling_weights
from reelkind.training.optimisation.devices import resolve_device
from reelkind.training.optimisation.tracking import MetricsLog
from reelkind.training.recipe import chosen_samples, pretrained, training_set
from reelkind.training.stage_store import StageStore
from reelkind.training.stages import Trainer
from reelkind.video.clip import read_clip

RESULTS = Path(__file__).parents[1] / "results"
REGRESSION = "regression"
REGRESSION_PENALTY = 1e-3  # scikit-learn's C; features are standardised


def fewer(frames: np.ndarray, num_frames: int) -> np.ndarray:
    """The middle ones of ``num_frames`` equal parts of frames [T, ...]; all of them if there are no more."""
    if num_frames >= len(frames):
        return frames
    return frames[segment_middles(0, len(frames), num_frames)]


def measure(config: Config, data: Path, cache: Path, seeds: Sequence[int], frame_counts: Sequence[int]) -> Any:
    """A report: accuracy, macro-F1 and recalls of every seed, held out and on validation.

    Args:
        config: of a recipe whose backbone stays frozen.
        data: folder of the sources' folders.
        cache: folder of cached activations and heads.
        seeds: each divides and trains anew.
        frame_counts: T to ask with. Held out, no clip has more than the recipe caches.

    Raises:
        ConfigError: if the recipe fine-tunes its backbone.
        DataError: if data or starting weights are missing.
    """
    if config.finetune.steps:
        raise ConfigError(
            f"finetune.steps = {config.finetune.steps}: only recipes with a frozen backbone are measured so"
        )
    torch.set_num_threads(config.num_threads)
    device, store = resolve_device(config.device), StageStore(cache, config.checkpoint_steps)
    train, val = split_samples(chosen_samples(config.data, data))
    backbone = pretrained(config.backbone, data)
    tail = Tail(backbone, config.backbone.frozen_blocks)
    training = training_set(config, backbone, train, cache, device)
    served = _served_features(backbone, val, frame_counts, config.backbone.frame_size_px)
    rows: list[dict[str, Any]] = []
    for seed in tqdm(seeds, desc="seeds"):
        trainer = Trainer(replace(config, seed=seed), training, device, store)
        for kind, logits in _held_out(trainer, tail, frame_counts).items():
            clips = [train[i] for i in training.clip_indices]
            rows.append({"seed": seed, **kind_of(kind), "on": "held out", **_scores(logits, clips, config)})
        _, head = trainer.fit(tail, np.arange(len(train)), MetricsLog())
        round_as_stored(head)
        for count, features in served.items():
            logits, _ = head_logits(head, features)
            rows.append({"seed": seed, **kind_of(count), "on": "val", **_scores(logits, val, config)})
    store.clean()
    return {
        "what": "cross-validation by work and repository, and validation, of several seeds",
        "environment": environment.describe(),
        "recipe": config.name,
        "folds": config.evaluation.num_folds,
        "rows": rows,
        "summary": summary(rows),
    }


def kind_of(kind: int | str) -> dict[str, Any]:
    """Who answered: the head with so many frames, or the regression."""
    return {"model": kind if isinstance(kind, str) else "head", "frames": kind if isinstance(kind, int) else None}


@torch.inference_mode()
def _served_features(
    backbone: Backbone, samples: Sequence[Sample], frame_counts: Sequence[int], size_px: int
) -> dict[int, list[np.ndarray]]:
    """T -> features float32 [T, D] of each sample, its frames chosen as for serving."""
    found: dict[int, list[np.ndarray]] = {}
    for count in frame_counts:
        clips = (read_clip(sample.path, num_frames=count, size_px=size_px) for sample in samples)
        found[count] = [
            backbone(torch.from_numpy(clip.frames).permute(0, 3, 1, 2)).numpy()
            for clip in tqdm(clips, desc=f"val, {count} frames", total=len(samples))
        ]
    return found


def _held_out(trainer: Trainer, tail: Tail, frame_counts: Sequence[int]) -> dict[int | str, np.ndarray]:
    """Frame count or ``regression`` -> logits [C, K] of all clips, each by models that saw nothing of its kin."""
    training, log = trainer.training, MetricsLog()
    kinds: list[int | str] = [*frame_counts, REGRESSION]
    logits = {kind: np.zeros((len(training.samples), NUM_CLASSES)) for kind in kinds}
    everything = trainer.features(tail.eval(), training.clean, np.arange(len(training.samples)))
    means = np.stack([everything.of(i).mean(axis=0) for i in range(len(training.samples))])
    for fold in fitted_folds(trainer, tail, log):
        for count in frame_counts:
            shortened = [fewer(fold.features.of(i), count) for i in range(len(fold.tested))]
            logits[count][fold.tested], _ = head_logits(fold.head, shortened)
        logits[REGRESSION][fold.tested] = _regression(trainer, means, fold.chosen, fold.tested)
    return {kind: found[training.clip_indices] for kind, found in logits.items()}


def _regression(trainer: Trainer, means: np.ndarray, chosen: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Log-probabilities [n, K] of the tested samples, trained on the means [N, D] of the chosen ones."""
    training = trainer.training
    model = make_pipeline(StandardScaler(), LogisticRegression(C=REGRESSION_PENALTY, max_iter=2000))
    weights = sampling_weights([training.samples[i] for i in chosen], trainer.config.sampling)
    weights = weights / weights.mean()
    model.fit(means[chosen], training.labels[chosen], logisticregression__sample_weight=weights)
    found: np.ndarray = model.predict_log_proba(means[tested])
    return found


def _scores(logits: np.ndarray, samples: Sequence[Sample], config: Config) -> dict[str, Any]:
    labels, groups = np.array([sample.label for sample in samples]), origin_groups(samples)
    found = score(logits, labels)
    right = np.diag(found.confusion) / found.confusion.sum(axis=1)
    intervals = bootstrap_intervals(logits, labels, groups, config.evaluation.num_bootstraps)
    return {
        "num_clips": len(samples),
        "num_right": int(np.trace(found.confusion)),
        "accuracy": round(found.accuracy, 4),
        "macro_f1": round(found.macro_f1, 4),
        "interval_95": intervals,
        "recall": {name: round(float(value), 4) for name, value in zip(CLASSES, right, strict=True)},
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each model, number of frames and set: the mean of the seeds, and the least and the most."""
    kinds = list(dict.fromkeys((row["on"], row["model"], row["frames"]) for row in rows))
    found = []
    for on, model, frames in kinds:
        alike = [row for row in rows if (row["on"], row["model"], row["frames"]) == (on, model, frames)]
        row: dict[str, Any] = {"on": on, "model": model, "frames": frames, "num_seeds": len(alike)}
        for key in ("accuracy", "macro_f1"):
            values = [line[key] for line in alike]
            row[key] = [round(value, 4) for value in (statistics.mean(values), min(values), max(values))]
        row["natural_recall"] = round(statistics.mean(line["recall"]["natural"] for line in alike), 4)
        found.append(row)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `reelkind train`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--cache", type=Path, default=user_cache("activations"))
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/seeds_NAME.json")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING)
    config = load_config(args.config, args.set)
    report = measure(config, args.data, args.cache, args.seeds, args.frames)
    report["set"] = args.set
    write_json(args.json or RESULTS / f"seeds_{config.name}.json", report)
    for row in report["summary"]:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
