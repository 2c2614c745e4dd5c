"""Finished modules to a bundle on disk: FP16 weights, bundle.json and the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reelkind.core import bundle as bundles
from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, BackboneInfo, Bundle
from reelkind.core.taxonomy import CLASSES

from .config import Config
from .data import Sample, work_groups
from .models import Backbone, TemporalHead

MAX_FP32_ELEMENTS = 4096  # biases and statistics cost nothing in full precision, and matter most
CARD_NAME = "README.md"


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
) -> Bundle:
    """Write weights, ``bundle.json`` and the card.

    Args:
        folder: the bundle's folder; created.
        config: the resolved configuration.
        backbone: already rounded by `round_to_half`.
        head: likewise.
        temperature: logits are divided by it.
        metrics: what was measured; ``val`` and, unless skipped, ``cross_validation``.
        train: what it was trained on.
        val: what it was measured on.

    Returns:
        The bundle as read back.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module, name in ((backbone, BACKBONE_WEIGHTS_NAME), (head, HEAD_WEIGHTS_NAME)):
        save_file(half_state(module), folder / name)
        (folder / name).chmod(0o644)
    settings = asdict(config)
    del settings["notes"]  # the card has them
    settings["backbone"]["weights"] = Path(config.backbone.weights).name  # where it lay is nobody's business
    bundle = bundles.save(
        Bundle(
            name=config.name,
            backbone=BackboneInfo(config.backbone.name, backbone.feature_dim, config.backbone.frame_size_px),
            head=head.config,
            num_frames=config.num_frames,
            temperature=temperature,
            trained=True,
            metrics=metrics,
            provenance={
                "starting_weights": config.backbone.origin or settings["backbone"]["weights"],
                "training_data": _count(train),
                "validation_data": _count(val),
                "split": "by work; whatever shares a show, game or repository with validation was left out of training",
            },
            config=settings,
        ),
        folder,
    )
    (folder / CARD_NAME).write_text(card(bundle, config.notes), encoding="utf-8")
    return bundle


def card(bundle: Bundle, notes: str = "") -> str:
    """The bundle's README in Markdown: what it is, how good, from what."""
    val, folds = bundle.metrics["val"], bundle.metrics.get("cross_validation")
    lines = [
        f"# Bundle `{bundle.name}`",
        "",
        f"{bundle.backbone.name} at {bundle.backbone.frame_size_px} px, {bundle.backbone.feature_dim} features; "
        f"temporal head of width {bundle.head.width} ({bundle.head.num_layers} bidirectional LSTM layers, "
        f"self-attention, attention pooling); {bundle.num_frames} frames a clip; temperature {bundle.temperature}. "
        "Weights are stored in FP16 and were rounded before they were measured.",
        "",
        "## Results",
        "",
        "| measured on | clips | works | accuracy (95 %) | macro-F1 (95 %) | ECE |",
        "|---|---|---|---|---|---|",
    ]
    if folds:
        lines.append(_row("cross-validation by work, training clips", folds, folds["ece_calibrated"]))
    lines += [
        _row("validation, never trained on", val, val["ece"]),
        "",
        "Intervals are percentile bootstraps over whole works. The temperature is fitted on cross-validated "
        "logits, and cross-fitted for the ECE of the first row.",
        "",
        "| validation: true \\ predicted | " + " | ".join(CLASSES) + " | recall |",
        "|---" * (len(CLASSES) + 2) + "|",
    ]
    for name, row in zip(CLASSES, val["confusion"], strict=True):
        lines.append(f"| {name} | " + " | ".join(map(str, row)) + f" | {val['recall'][name]:.2f} |")
    lines += ["", "Wrong in validation: " + (", ".join(f"`{name}`" for name in val["wrong"]) or "none") + ".", ""]
    if notes:
        lines += [notes.strip(), ""]
    lines += ["## Data and provenance", ""]
    provenance = bundle.provenance
    lines.append(f"Starting weights: {provenance['starting_weights']}.")
    for title, key in (("Training", "training_data"), ("Validation", "validation_data")):
        counts = "; ".join(
            f"{kind}: " + ", ".join(f"{count} {name}" for name, count in classes.items())
            for kind, classes in provenance[key]["files"].items()
        )
        lines.append(f"{title}: {provenance[key]['works']} works ({counts}).")
    lines += [f"Split: {provenance['split']}.", ""]
    return "\n".join(lines)


def _row(title: str, metrics: Mapping[str, Any], ece: float) -> str:
    def with_interval(name: str) -> str:
        low, high = metrics["interval_95"][name]
        return f"{metrics[name]:.3f} ({low:.2f}–{high:.2f})"

    return (
        f"| {title} | {metrics['num_clips']} | {metrics['num_works']} | {with_interval('accuracy')} "
        f"| {with_interval('macro_f1')} | {ece:.3f} |"
    )


def _count(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter((sample.source, CLASSES[sample.label]) for sample in samples)
    sources = sorted({source for source, _ in counts})
    return {
        "works": len(set(work_groups(samples))),
        "files": {
            source: {name: counts[source, name] for name in CLASSES if counts[source, name]} for source in sources
        },
    }
