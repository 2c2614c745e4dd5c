"""A bundle's description and metrics to its README, and a later evaluation into both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reelkind.core import bundle as bundles
from reelkind.core.abstaining import with_joint
from reelkind.core.bundle import Bundle
from reelkind.core.files.whole_files import write_whole
from reelkind.core.taxonomy.classes import CLASSES, NUM_SUBCATEGORIES, subcategory_names

from .report import baseline_lines, comparison_lines, ensemble_lines, headlines, member_lines, shortcut_lines

CARD_NAME = "README.md"
PLOTS_FOLDER = "plots"
EVALUATION = "evaluation"  # key of ``Bundle.metrics``: split -> what `report.for_member` gives
ABSTAIN = "abstain"  # key of ``Bundle.metrics``: the threshold chosen on validation

_BEGIN, _END = "<!-- evaluation: written by reelkind evaluate -->", "<!-- end evaluation -->"
_STORED = {"float16": "in FP16", "int8": "as integers of 7 bits with a scale for each output, the head's in FP16,"}
_NEXT_SECTION = "## Data and provenance\n"


def card(bundle: Bundle, notes: str = "") -> str:
    """The bundle's README in Markdown: what it is, how good, from what."""
    val, folds = bundle.metrics["val"], bundle.metrics.get("cross_validation")
    divided = "work or repository" if "repository" in (folds or {}).get("what", "") else "work"
    lines = [
        f"# Bundle `{bundle.name}`",
        "",
        f"{bundle.backbone.name} at {bundle.backbone.frame_size_px} px, {bundle.backbone.feature_dim} features; "
        f"temporal head of width {bundle.head.width} ({bundle.head.num_layers} bidirectional LSTM layers, "
        f"self-attention, attention pooling); {bundle.num_frames} frames a clip; temperature {bundle.temperature}. "
        f"Weights are stored {_STORED[bundle.backbone.storage]} and were rounded before they were measured.",
        "",
        "## Results",
        "",
        "| measured on | clips | works | accuracy (95 %) | macro-F1 (95 %) | ECE |",
        "|---|---|---|---|---|---|",
    ]
    if folds:
        lines.append(_row(f"cross-validation by {divided}, training clips", folds, folds["ece_calibrated"]))
    lines.append(_row("validation, never trained on", val, val["ece"]))
    if folds and "held_out" in bundle.metrics:
        held_out = bundle.metrics["held_out"]
        lines.append(_row(f"both: every clip by a model that never saw its {divided}", held_out, held_out["ece"]))
    lines += [
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
    if bundle.has_subcategories:
        lines += [*subcategory_lines(bundle), ""]
    if notes:
        lines += [notes.strip(), ""]
    if bundle.metrics.get(EVALUATION):
        lines += [*evaluation_lines(bundle), ""]
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
    if bundle.metrics.get("collapsed"):
        lines += [f"Collapsed in training: {'; '.join(bundle.metrics['collapsed'])}.", ""]
    if "run" in provenance:
        lines += ["Made by:", "", "```text", run_table(provenance["run"]), "```", ""]
    return "\n".join(lines)


def subcategory_lines(bundle: Bundle) -> list[str]:
    """Which subcategories the bundle names, and how often it is right."""
    found, learnt = bundle.metrics.get("subcategory", {}), bundle.subcategories_learnt
    lines = [
        "## Subcategories",
        "",
        "| measured on | clips | works | subcategory right (95 %) |",
        "|---|---|---|---|",
    ]
    for title, key in (("cross-validation", "cross_validation"), ("validation", "val")):
        measured = found.get(key, {})
        parts = {"": measured, **measured.get("by_class", {})} if measured else {}
        for name, part in parts.items():
            low, high = part["interval_95"]
            where = f"{title}, {name}" if name else title
            right = f"{part['top1']:.3f} ({low:.2f}–{high:.2f})"
            lines.append(f"| {where} | {part['num_clips']} | {part['num_works']} | {right} |")
    lines += [
        "",
        "Of clips whose subcategory was learnt; named is the likeliest learnt one of the class that is said, so that a "
        f"wrong class counts as wrong. Temperature {bundle.subcategory_temperature}.",
        "",
        f"Learnt ({len(learnt)} of {NUM_SUBCATEGORIES}), each from at least {found.get('min_works', 1)} works: "
        f"{', '.join(learnt) or 'none'}.",
        "",
        "Not learnt, and never named: "
        + (", ".join(name for name in subcategory_names() if name not in learnt) or "none")
        + ".",
    ]
    return lines


def evaluation_lines(bundle: Bundle) -> list[str]:
    """The sections about every recorded evaluation, between markers, so that a later one can replace them."""
    lines = [_BEGIN]
    for split, report in bundle.metrics[EVALUATION].items():
        lines += [f"## Evaluation on {split}", "", report["what"], "", *headlines(report), ""]
        ((name, found),) = report["members"].items()  # the bundle's name when it was measured
        lines += [*member_lines(found), ""]
        for title, key, render_part in (
            ("Baselines", "baselines", baseline_lines),
            ("Ensemble", "ensemble", ensemble_lines),
            ("Against other members", "comparisons", comparison_lines),
        ):
            if report.get(key):
                lines += [f"### {title}", "", *render_part(report[key]), ""]
        if name in report.get("shortcuts", {}):
            lines += ["### Shortcuts", "", *shortcut_lines(report["shortcuts"][name]), ""]
        lines += [f"![{Path(name).stem}]({PLOTS_FOLDER}/{name})" for name in report.get("plots", ())]
    return [*lines, _END]


def record(
    bundle: Bundle,
    split: str,
    report: Mapping[str, Any],
    plots: Mapping[str, Path],
    together: Sequence[Bundle] = (),
) -> Bundle:
    """Put an evaluation into a bundle: its metrics, its card, its folder of plots. Weights and notes stay.

    Args:
        bundle: on disk; an earlier evaluation on the same split is replaced.
        split: what it was measured on.
        report: of `report.for_member`.
        plots: name in the bundle -> file to copy.
        together: all bundles of ``report``; several have a threshold of their own for abstaining.

    Returns:
        The bundle as read back.
    """
    names = [f"{split}_{name}" for name in plots]
    for name, source in zip(names, plots.values(), strict=True):
        target = bundle.path(PLOTS_FOLDER, name)
        target.parent.mkdir(exist_ok=True)
        write_whole(target, source.read_bytes())
    metrics = dict(bundle.metrics)
    metrics[EVALUATION] = {**metrics.get(EVALUATION, {}), split: {**report, "plots": names}}
    if split == "val":
        metrics[ABSTAIN] = report["members"][bundle.name]["abstain"]
        if len(together) > 1:
            metrics = with_joint(metrics, together, report["ensemble"]["abstain"])
    recorded = bundles.save(replace(bundle, metrics=metrics), bundle.path())
    path = recorded.path(CARD_NAME)
    before = path.read_text(encoding="utf-8") if path.is_file() else f"# Bundle `{bundle.name}`\n\n"
    write_whole(path, _with_evaluation(before, evaluation_lines(recorded)))
    return recorded


def _with_evaluation(text: str, lines: Sequence[str]) -> str:
    block = "\n".join(lines)
    if _BEGIN in text and _END in text:
        return re.sub(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", lambda _: block, text, flags=re.S)
    if _NEXT_SECTION in text:
        return text.replace(_NEXT_SECTION, f"{block}\n\n{_NEXT_SECTION}", 1)
    return f"{text.rstrip()}\n\n{block}\n"


def _row(title: str, metrics: Mapping[str, Any], ece: float) -> str:
    def with_interval(name: str) -> str:
        low, high = metrics["interval_95"][name]
        return f"{metrics[name]:.3f} ({low:.2f}–{high:.2f})"

    return (
        f"| {title} | {metrics['num_clips']} | {metrics['num_works']} | {with_interval('accuracy')} "
        f"| {with_interval('macro_f1')} | {ece:.3f} |"
    )


def run_table(run: Mapping[str, Any]) -> str:
    """``training.provenance.describe_run`` as a table for people."""
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in run["seconds"].items())
    memory = f"{run['peak_memory_mib']} MiB"
    if "peak_cuda_memory_mib" in run:
        memory += f", CUDA {run['peak_cuda_memory_mib']} MiB"
    rows = {
        "configuration": run["config_sha256"][:12],
        "data": run["data_sha256"][:12],
        "code": run["git_revision"][:12] + (" with changes" if run["git_dirty"] is True else ""),
        "seed": run["seed"],
        "libraries": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
        "device": f"{run['device']}; processes {run['num_processes']}, threads {run['num_threads']}",
        "time": seconds + (" (went on from an earlier run)" if run["resumed"] else ""),
        "peak memory": memory,
    }
    return "\n".join(f"{name:<14} {value}" for name, value in rows.items())
