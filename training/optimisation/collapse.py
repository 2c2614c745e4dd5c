"""Predictions to a notice that a training collapsed: a class it never says, or answers no better than chance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from reelkind.core.taxonomy.classes import CLASSES

from .tracking import MetricsLog

logger = logging.getLogger(__name__)

MIN_SAMPLES = 8  # of a class; fewer may be missed by chance
MIN_TOTAL = 64  # samples that tell chance from skill


def find_collapse(confusion: np.ndarray) -> str:
    """What is wrong, or the empty string.

    Args:
        confusion: int64 [K, K], rows are true classes.
    """
    meant, said, total = confusion.sum(axis=1), confusion.sum(axis=0), confusion.sum()
    absent = [name for i, name in enumerate(CLASSES) if meant[i] >= MIN_SAMPLES and said[i] == 0]
    if absent:
        return f"never says {', '.join(absent)}"
    by_chance = meant.max() + 2 * meant.max() ** 0.5  # and two standard deviations
    if total >= MIN_TOTAL and confusion.trace() <= by_chance:
        return f"is hardly better than always saying {CLASSES[int(meant.argmax())]}"
    return ""


def note_collapse(log: MetricsLog, of: str, confusion: np.ndarray, step: int = 0, steps: int = 0) -> None:
    """Warn in the log and write a line with ``stage="collapse"`` if the predictions have collapsed.

    Args:
        log: gets the line.
        of: what was trained or measured.
        confusion: int64 [K, K], rows are true classes.
        step: optimizer steps done.
        steps: optimizer steps in all; a notice before the last may be recovered from.
    """
    what = find_collapse(confusion)
    if what:
        logger.warning("%s collapsed%s: it %s", of, f" at step {step} of {steps}" if step < steps else "", what)
        log.write(stage="collapse", of=of, step=step, what=what, final=step == steps)


def final_collapses(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The notices of a log that nothing recovered from, in words."""
    return [
        f"{line['run']}, {line['of']}: {line['what']}" if "run" in line else f"{line['of']}: {line['what']}"
        for line in lines
        if line["stage"] == "collapse" and line["final"]
    ]
