"""Tables of the metrics in the shipped bundles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tables_from_code import table

from reelkind.core import bundle

ROOT = Path(__file__).parents[1]
MEMBERS = ("clip", "lite", "lite2")


def results() -> str:
    """Accuracy of the shipped bundles, as training and `reelkind evaluate --record` measured it."""
    members = [bundle.load(ROOT / "bundles" / name) for name in MEMBERS]
    rows = []
    for member in members:
        for key, what in (("val", "validation"), ("held_out", _held_out(member))):
            found = member.metrics[key]
            clips, works = str(found["num_clips"]), str(found["num_works"])
            rows.append((f"`{member.name}`", what, clips, works, *_with_intervals(found)))
    sizes = []
    for member in members:
        files = (*member.backbone.weights, bundle.HEAD_WEIGHTS_NAME)
        size = sum(member.path(name).stat().st_size for name in files)
        sizes.append(
            f"`{member.name}`: {member.num_frames} frames of {member.backbone.frame_size_px} px a clip, "
            f"{size / 1e6:.1f} MB of weights ({member.backbone.storage})"
        )
    found = table(("", "measured on", "clips", "works", "accuracy (95 %)", "macro-F1 (95 %)"), rows)
    return f"{found}\n\n{'; '.join(sizes)}."


def _held_out(member: bundle.Bundle) -> str:
    divided = "work or repository" if "repository" in member.metrics["cross_validation"]["what"] else "work"
    return f"every clip, by models that never saw its {divided}"


def subcategories() -> str:
    """How often the subcategory named is right, by class."""
    rows = []
    for member in (bundle.load(ROOT / "bundles" / name) for name in MEMBERS):
        found = member.metrics.get("subcategory")
        if not found:
            continue
        measured = found["cross_validation"]
        for name, part in (("all", measured), *measured["by_class"].items()):
            low, high = part["interval_95"]
            right = f"{part['num_right']} of {part['num_clips']}"
            rows.append(
                (
                    f"`{member.name}`",
                    name,
                    right,
                    str(part["num_works"]),
                    f"{part['top1']:.2f} ({low:.2f} .. {high:.2f})",
                )
            )
    return table(("", "class", "right", "works", "top-1 (95 %), works and repositories held out"), rows)


def _with_intervals(found: Mapping[str, Any]) -> list[str]:
    cells = []
    for metric in ("accuracy", "macro_f1"):
        low, high = found["interval_95"][metric]
        cells.append(f"{found[metric]:.3f} ({low:.2f} .. {high:.2f})")
    return cells
