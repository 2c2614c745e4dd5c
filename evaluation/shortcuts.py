"""Damaged copies of labelled clips to a report of which damage changes the answers."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.core.errors import VideoError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.datasets.sample import content_hash

from .damages import DAMAGES, Damage, damaged_path, write_damaged
from .measures.predictions import Predictions, common
from .measures.significance import NUM_BOOTSTRAPS, compare

MAX_COST_POINTS = 3.0  # a damage that costs more accuracy is flagged


@dataclass(frozen=True)
class Copies:
    """The damaged copies of one file.

    Attributes:
        name: of the clip.
        paths: damage -> copy.
        problem: why some are missing, "" if none is.
    """

    name: str
    paths: Mapping[str, Path]
    problem: str = ""


def make_copies(
    files: Mapping[str, Path], folder: Path, num_workers: int, damages: Sequence[Damage] = DAMAGES
) -> Iterator[Copies]:
    """Damage every file in every way, in processes of their own; copies made before are kept.

    Args:
        files: name of a clip -> its file.
        folder: scratch folder for the copies; created.
        num_workers: processes.
        damages: what to do.

    Yields:
        Copies as they get ready; a file that cannot be damaged says why, and a file that kills its process
        costs only itself.
    """
    suspects: list[str] = []  # of killing their process, or only there when it died
    with _workers(num_workers) as workers:
        futures = {workers.submit(_copies, name, path, folder, damages): name for name, path in files.items()}
        try:
            for future in as_completed(futures):
                if isinstance(future.exception(), BrokenProcessPool):
                    suspects.append(futures[future])
                else:
                    yield future.result()
        finally:
            workers.shutdown(cancel_futures=True)
    for name in suspects:
        with _workers(1) as worker:
            yield _alone(worker.submit(_copies, name, files[name], folder, damages), name)


def _workers(count: int) -> ProcessPoolExecutor:
    # Never fork a process that has threads. A terminal's Ctrl-C ends the workers at once and without a word.
    context, on_interrupt = get_context("spawn"), (signal.SIGINT, signal.SIG_DFL)
    return ProcessPoolExecutor(count, mp_context=context, initializer=signal.signal, initargs=on_interrupt)


def _alone(future: Future[Copies], name: str) -> Copies:
    try:
        return future.result()
    except BrokenProcessPool:
        return Copies(name, {}, "crashed the process that damaged it: the file is damaged or malicious")


def _copies(name: str, path: Path, folder: Path, damages: Sequence[Damage]) -> Copies:
    paths, problem = {}, ""
    try:
        digest = content_hash(path)
        for damage in damages:
            target = damaged_path(folder, digest, damage)
            try:
                write_damaged(path, damage, target)
                paths[damage.name] = target
            except VideoError as error:
                problem = error.reason
    except OSError as error:
        problem = f"cannot be copied: {error.strerror or error}"
    return Copies(name, paths, problem)


def shortcut_summary(
    before: Predictions,
    after: Mapping[str, Predictions],
    damages: Sequence[Damage] = DAMAGES,
    num_bootstraps: int = NUM_BOOTSTRAPS,
) -> dict[str, Any]:
    """What each damage costs, paired clip by clip, for JSON.

    Args:
        before: on the files as they are.
        after: damage -> on the copies; clips whose copy failed are left out of that row.
        damages: in the order of the report.
        num_bootstraps: for intervals.

    Returns:
        ``rows``, and ``flagged``: the damages that cost more than 3 points of accuracy.
    """
    rows = [
        _row(damage, *_pair(before, after[damage.name]), num_bootstraps) for damage in damages if damage.name in after
    ]
    return {
        "member": before.member,
        "max_cost_points": MAX_COST_POINTS,
        "rows": rows,
        "flagged": [row["damage"] for row in rows if row["flagged"]],
    }


def _pair(before: Predictions, after: Predictions) -> tuple[Predictions, Predictions]:
    first, second = common([before, after])
    return first, second


def _row(damage: Damage, before: Predictions, after: Predictions, num_bootstraps: int) -> dict[str, Any]:
    labels, everyone = before.labels, np.arange(len(before))
    sure, sure_after = before.probabilities(), after.probabilities()
    right, right_after = sure.argmax(axis=1) == labels, sure_after.argmax(axis=1) == labels
    comparison = compare(right, right_after, before.groups, num_bootstraps)
    lost = sure_after[everyone, labels] - sure[everyone, labels]
    by_class = {
        name: round(100 * float(right_after[labels == i].mean() - right[labels == i].mean()), 2)
        for i, name in enumerate(CLASSES)
        if (labels == i).any()
    }
    points = round(100 * comparison.difference, 2)
    return {
        "damage": damage.name,
        "what": damage.what,
        "num_clips": comparison.num_clips,
        "accuracy_before": round(comparison.accuracy_a, 4),
        "accuracy": round(comparison.accuracy_b, 4),
        "change_points": points,
        "interval_95_points": [round(100 * end, 2) for end in comparison.interval],
        "only_right_before": comparison.only_a_right,
        "only_right_after": comparison.only_b_right,
        "mcnemar_p": round(comparison.p_value, 4),
        "changed_answers": int((sure.argmax(axis=1) != sure_after.argmax(axis=1)).sum()),
        "change_of_true_class_probability": round(float(lost.mean()), 4),
        "change_points_by_class": by_class,
        "flagged": points < -MAX_COST_POINTS,
    }
