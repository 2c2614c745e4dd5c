"""What a head trained on YouTube-8M's features is, to its README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelkind.core.taxonomy.classes import CLASSES

LABEL = "yt8m features only: cannot classify video files by itself, needs YouTube-8M's own Inception features"
_TITLES = {
    "val": "validation: held out of the training shards by the hash of the id; the temperature is fitted on it",
    "test": "test: YouTube-8M's validation partition, never trained or tuned on",
}


def track_card(description: Mapping[str, Any], notes: str = "") -> str:
    """The README in Markdown: what it is, how good, from what.

    Args:
        description: content of features.json.
        notes: Markdown that is repeated.
    """
    head, config = description["head"], description["config"]
    lines = [
        f"# `{description['name']}`",
        "",
        f"**{description['label']}.**",
        "",
        f"A temporal head of width {head['width']} ({head['num_layers']} bidirectional LSTM layers, self-attention, "
        f"attention pooling) on the {head['feature_dim']} dequantised features a second of YouTube-8M's frame-level "
        f"records; {description['num_frames']} seconds a video; temperature {description['temperature']}. "
        "Labels are YouTube-8M's, made by a machine, sorted into four classes by the taxonomy and its co-label rules: "
        "the figures measure agreement with those labels, not with people.",
        "",
        "## Results",
        "",
        "| measured on | videos | accuracy (95 %) | macro-F1 (95 %) | majority | ECE |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(_TITLES[split], metrics) for split, metrics in description["metrics"].items()]
    if "test" not in description["metrics"]:
        lines += ["", "There was no `validate*` shard, so there is no test set."]
    split, metrics = list(description["metrics"].items())[-1]
    lines += ["", f"Intervals are percentile bootstraps over videos ({config['num_bootstraps']} draws).", ""]
    lines += [*_confusion(split, metrics), "", *_subcategories(split, metrics), ""]
    if notes:
        lines += [notes.strip(), ""]
    lines += ["## Data", "", "YouTube-8M (2018 and 2019 sets) by Google, CC BY 4.0.", ""]
    for split, counts in description["provenance"].items():
        classes = ", ".join(f"{counts['classes'].get(name, 0)} {name}" for name in CLASSES)
        lines.append(f"- {split}: {counts['videos']} videos ({classes}), SHA-256 `{counts['sha256'][:16]}`")
    return "\n".join([*lines, ""])


def _row(title: str, metrics: Mapping[str, Any]) -> str:
    def with_interval(name: str) -> str:
        low, high = metrics["interval_95"][name]
        return f"{metrics[name]:.3f} ({low:.3f}–{high:.3f})"

    return (
        f"| {title} | {metrics['num_videos']} | {with_interval('accuracy')} | {with_interval('macro_f1')} "
        f"| {metrics['majority_accuracy']:.3f} | {metrics['ece']:.3f} |"
    )


def _confusion(split: str, metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        f"| {split}: true \\ predicted | " + " | ".join(CLASSES) + " | recall |",
        "|---" * (len(CLASSES) + 2) + "|",
    ]
    for name, row in zip(CLASSES, metrics["confusion"], strict=True):
        lines.append(f"| {name} | " + " | ".join(map(str, row)) + f" | {metrics['recall'][name]:.2f} |")
    return lines


def _subcategories(split: str, metrics: Mapping[str, Any]) -> list[str]:
    lines = [f"| {split}: class right, by subcategory | videos | recall (95 %) |", "|---|---|---|"]
    for name, found in metrics["subcategories"].items():
        low, high = found["interval_95"]
        lines.append(f"| {name} | {found['count']} | {found['recall']:.2f} ({low:.2f}–{high:.2f}) |")
    if "subcategory_accuracy" in metrics:
        lines += ["", f"Right subcategory of 46: {metrics['subcategory_accuracy']:.3f}."]
    return lines
