"""A report to PNG pictures, readable at a glance and without telling colours apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reelkind.core.taxonomy.classes import CLASSES

# Okabe and Ito's palette, told apart with any colour vision
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#888888"
CLASS_COLOURS = dict(zip(CLASSES, (BLUE, ORANGE, GREEN, RED), strict=True))
DPI = 110
SHEET_COLUMNS = 6


def draw(report: Mapping[str, Any], folder: Path, metrics_logs: Mapping[str, Path] | None = None) -> list[str]:
    """Every picture the report has the numbers for.

    Args:
        report: of `report.build`.
        folder: where the PNG files go; created.
        metrics_logs: member -> ``metrics.jsonl`` of its training, where there is one.

    Returns:
        Names of the files, in reading order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Figure] = {}
    measured_on = report["split"]
    for name, member in report["members"].items():
        figures[f"{name}-confusion.png"] = confusion(member, measured_on)
        figures[f"{name}-recall.png"] = recall(member, measured_on)
        figures[f"{name}-reliability.png"] = reliability(member, measured_on)
        figures[f"{name}-risk_coverage.png"] = risk_coverage(member, measured_on)
    for name, found in report.get("shortcuts", {}).items():
        if found["rows"]:
            figures[f"{name}-shortcuts.png"] = shortcuts(found, measured_on)
    for name, path in (metrics_logs or {}).items():
        curves = read_losses(path)
        if curves:
            figures[f"{name}-training.png"] = training(name, curves)
    for file, figure in figures.items():
        figure.savefig(folder / file, dpi=DPI, metadata={"Software": None})
    return list(figures)


def confusion(member: Mapping[str, Any], measured_on: str) -> Figure:
    """Counts, shaded by the share of the true class."""
    counts = np.array(member["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _canvas(4.6, 4.2, f"{member['member']} on {measured_on}: {_right(member)}")
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape):
        ink = "black" if shares[row, column] > 0.5 else "white"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_yticks(range(len(CLASSES)), CLASSES)
    axes.set(xlabel="said", ylabel="true")
    return figure


def recall(member: Mapping[str, Any], measured_on: str) -> Figure:
    """Recall of classes and subcategories with Wilson intervals and counts."""
    rows = [(kind, found, True) for kind, found in member["by_class"].items()]
    rows += [(kind, found, False) for kind, found in member["by_subcategory"].items()]
    title = f"{member['member']} on {measured_on}: recall, 95 % (Wilson), {member['num_clips']} clips"
    figure, axes = _canvas(7, 1.2 + 0.24 * len(rows), title)
    for place, (kind, found, is_class) in enumerate(rows):
        low, high = found["interval_95"]
        colour = CLASS_COLOURS[kind.split("/")[0]]
        axes.plot([low, high], [place, place], color=colour, linewidth=4 if is_class else 1.5, alpha=0.6)
        axes.plot(found["recall"], place, marker="s" if is_class else "o", color=colour)
    axes.set_yticks(range(len(rows)), [f"{kind}  ({found['right']} of {found['count']})" for kind, found, _ in rows])
    axes.set(xlim=(-0.02, 1.02), xlabel="share answered rightly")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    return figure


def reliability(member: Mapping[str, Any], measured_on: str) -> Figure:
    """Confidence against accuracy in equally filled bins."""
    confidence, accuracy, count = np.array(member["reliability"]).T
    found = member["calibration"]["as_shipped"]
    low, high = found["ece_interval_95"]
    title = f"{member['member']} on {measured_on}: ECE {found['ece']:.3f} ({low:.2f}–{high:.2f})"
    figure, axes = _canvas(4.6, 4.2, title)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="as sure as right")
    label = f"{member['num_clips']} clips in {len(count)} bins"
    axes.plot(confidence, accuracy, marker="o", color=BLUE, label=label)
    axes.set(xlim=(0.2, 1.02), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="share right")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    return figure


def risk_coverage(member: Mapping[str, Any], measured_on: str) -> Figure:
    """What is left wrong when unsure clips get no answer."""
    coverage, risk = np.array(member["risk_coverage"]).T
    found = member["abstain"]
    title = f"{member['member']} on {measured_on}: {member['num_clips']} clips, AURC {member['aurc']:.3f}"
    figure, axes = _canvas(4.8, 3.8, title)
    axes.step(coverage, risk, where="post", color=BLUE)
    if found["accuracy"] is not None:
        label = f"below {found['abstain_below']:.2f} no answer"
        axes.plot(found["coverage"], 1 - found["accuracy"], marker="D", color=RED, linestyle="none", label=label)
        axes.legend()
    axes.set(xlim=(0, 1.02), ylim=(-0.005, max(0.05, 1.15 * float(risk.max()))))
    axes.set(xlabel="share of clips answered", ylabel="share of answers wrong")
    axes.grid(alpha=0.3)
    return figure


def shortcuts(found: Mapping[str, Any], measured_on: str) -> Figure:
    """Change of accuracy by damage, with intervals by work; what costs more than allowed is hatched."""
    rows = found["rows"]
    count = max(row["num_clips"] for row in rows)
    title = f"{found['member']} on {measured_on}: what damage changes, {count} clips, 95 % by work"
    figure, axes = _canvas(7, 1.2 + 0.3 * len(rows), title)
    for place, row in enumerate(rows):
        low, high = row["interval_95_points"]
        axes.barh(
            place,
            row["change_points"],
            color=RED if row["flagged"] else BLUE,
            hatch="//" if row["flagged"] else None,
            edgecolor="white",
        )
        axes.plot([low, high], [place, place], color="black", linewidth=1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(-found["max_cost_points"], color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["damage"] for row in rows])
    axes.set(xlabel=f"change of accuracy in points (dashed: the {found['max_cost_points']:g} that are allowed)")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return figure


def training(name: str, curves: Sequence[tuple[str, Sequence[int], Sequence[float]]]) -> Figure:
    """Losses by step, a panel a stage, a line a run."""
    stages = list(dict.fromkeys(stage for stage, _, _ in curves))
    figure = Figure(figsize=(4.2 * len(stages), 3.4), layout="constrained")
    figure.suptitle(f"{name}: training loss")
    for place, stage in enumerate(stages):
        axes = figure.add_subplot(1, len(stages), place + 1)
        runs = [(steps, losses) for found, steps, losses in curves if found == stage]
        for i, (steps, losses) in enumerate(runs):
            last = i == len(runs) - 1
            label = "last run" if last else None
            axes.plot(steps, losses, color=BLUE if last else GREY, alpha=1 if last else 0.5, label=label)
        axes.set(title=f"{stage}, {len(runs)} runs", xlabel="step", ylabel="loss")
        axes.legend()
    return figure


def read_losses(path: Path) -> list[tuple[str, list[int], list[float]]]:
    """Stage, steps and losses of every run in a ``metrics.jsonl``; a step that falls back begins a run."""
    curves: list[tuple[str, list[int], list[float]]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            stage, step, loss = str(entry["stage"]), int(entry["step"]), float(entry["loss"])
        except (ValueError, KeyError, TypeError):
            continue  # other lines have no loss; the last may be cut off
        if not curves or curves[-1][0] != stage or step <= curves[-1][1][-1]:
            curves.append((stage, [], []))
        curves[-1][1].append(step)
        curves[-1][2].append(loss)
    return curves


def contact_sheet(pictures: Sequence[tuple[np.ndarray, str]], path: Path) -> None:
    """Pictures uint8 RGB [H, W, 3] with a line of text each. Of other people's material: for local use only."""
    rows = -(-len(pictures) // SHEET_COLUMNS)
    figure = Figure(figsize=(2.1 * SHEET_COLUMNS, 2.3 * rows), layout="constrained")
    for place, (picture, text) in enumerate(pictures):
        axes = figure.add_subplot(rows, SHEET_COLUMNS, place + 1)
        axes.imshow(picture)
        axes.set_title(text.replace("$", r"\$"), fontsize=7)
        axes.axis("off")
    figure.savefig(path, dpi=DPI)


def _canvas(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, figure.add_subplot()


def _right(member: Mapping[str, Any]) -> str:
    confusion_matrix = np.array(member["confusion"])
    return f"{confusion_matrix.diagonal().sum()} of {confusion_matrix.sum()} right"
