"""File to label, by reelkind and by what one would write or take instead: same clips, network and weights, one run.

Every peer is made first, and one that cannot run here becomes a row with the reason. Then all take turns: a round is
all clips by ``callers`` threads that share the peer, the first round is dropped, and the order turns round each time.
Accuracy is of the first label given; a peer of other weights has none.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reelkind.benchmarks import environment
from reelkind.benchmarks.labelled_clips import labelled as clips
from reelkind.benchmarks.peers.makers import OURS, PEERS, SLOW_TO_MAKE, Setting
from reelkind.benchmarks.reports import Row, conditions, number, spread, table
from reelkind.core import bundle as bundles
from reelkind.core.errors import ReelkindError

__all__ = ["PLOTS", "clips", "measure", "page"]

Progress = Callable[[str], None]
Label = Callable[[Path], str]
"""A video to the class that a peer gives it."""


class PeersError(ReelkindError):
    """Nobody is called so."""


def measure(
    folder: Path,
    labelled: Sequence[tuple[Path, str]],
    *,
    callers: int,
    repeats: int,
    wanted: Sequence[str] | None = None,
    quick: bool = False,
    progress: Progress,
) -> dict[str, Any]:
    """A report of all peers.

    Args:
        folder: the bundle whose weights all but the last few use.
        labelled: videos and their classes.
        callers: threads that ask a peer at once.
        repeats: rounds that count.
        wanted: names of ``PEERS``; all by default. Ours is always measured.
        quick: leave out those that take minutes to be made.
        progress: called with one line at each step.

    Raises:
        ReelkindError: if the bundle is of no use, or ``wanted`` names somebody else.
    """
    unknown = sorted(set(wanted or ()) - PEERS.keys())
    if unknown:
        raise PeersError(f"no peer is called {', '.join(unknown)} (there are: {', '.join(PEERS)})")
    bundle = bundles.load(folder)
    machine = environment.describe()
    setting = Setting(bundle, callers)
    reasons: dict[str, str] = {}
    start_s: dict[str, float] = {}
    with ExitStack() as stack:
        peers: dict[str, Label] = {}
        for name, (make, _) in PEERS.items():
            if name != OURS and wanted and name not in wanted:
                continue
            if quick and name in SLOW_TO_MAKE and not wanted:
                reasons[name] = "not measured: --quick leaves it out, it takes minutes to compile"
                continue
            began = time.perf_counter()
            try:
                label = stack.enter_context(make(setting))
                label(labelled[0][0])
            except Exception as error:  # whatever a library of somebody else's raises becomes its row
                reasons[name] = f"cannot run here: {_one_line(error)}"
                progress(f"{name}: {reasons[name]}")
                continue
            peers[name] = label
            start_s[name] = round(time.perf_counter() - began, 2)
            progress(f"{name}: ready after {start_s[name]:.1f} s")
        rates, given = _alternate(peers, labelled, callers, repeats, reasons, progress)
        peers.clear()
        gc.collect()
    rows = [
        _row(name, rates, given, labelled, start_s) if rates.get(name) else _base(name) | {"reason": reasons[name]}
        for name in PEERS
        if name in rates or name in reasons
    ]
    return {
        "what": "file to label: clips a second of reelkind and of what one would write or take instead",
        "environment": machine
        | {
            "bundle": bundle.name,
            "weights_sha256": bundles.weights_hash(bundle),
            "clip": [bundle.num_frames, bundle.backbone.frame_size_px, bundle.backbone.frame_size_px, 3],
            "clips": len(labelled),
            "callers": callers,
        },
        "plan": {"repeats": repeats, "quick": quick},
        "rows": rows,
    }


def _alternate(
    peers: dict[str, Label],
    labelled: Sequence[tuple[Path, str]],
    callers: int,
    repeats: int,
    reasons: dict[str, str],
    progress: Progress,
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Clips a second of each round, and labels of the first, by peer; ``reasons`` gains those that break down."""
    rates: dict[str, list[float]] = {name: [] for name in peers}
    given: dict[str, list[str]] = {}
    paths = [path for path, _ in labelled]
    for repeat in range(-1, repeats):
        for name in list(peers)[:: 1 if repeat % 2 else -1]:
            if name in reasons:
                continue
            try:
                with ThreadPoolExecutor(callers) as pool:
                    began = time.perf_counter()
                    labels = list(pool.map(peers[name], paths))
                    taken = time.perf_counter() - began
            except Exception as error:
                reasons[name] = f"broke down: {_one_line(error)}"
                rates[name].clear()
                continue
            if repeat < 0:
                given[name] = labels
            else:
                rates[name].append(len(paths) / taken)
        progress("warm-up done" if repeat < 0 else f"round {repeat + 1} of {repeats} done")
    return rates, given


def _base(name: str) -> Row:
    return {"name": name, "execution": PEERS[name][1]}


def _row(
    name: str,
    rates: Mapping[str, Sequence[float]],
    given: Mapping[str, Sequence[str]],
    labelled: Sequence[tuple[Path, str]],
    start_s: Mapping[str, float],
) -> Row:
    found = spread(rates[name])
    row = _base(name) | {
        "clips_per_s": found["median"],
        "clips_per_s_low": found["low"],
        "clips_per_s_high": found["high"],
        "start_s": start_s[name],
        "rounds": [round(rate, 4) for rate in rates[name]],
    }
    if rates.get(OURS):
        ratios = [ours / theirs for ours, theirs in zip(rates[OURS], rates[name], strict=True)]
        row["reelkind_to_this"] = round(statistics.median(ratios), 3)
        row["reelkind_to_this_low"], row["reelkind_to_this_high"] = round(min(ratios), 3), round(max(ratios), 3)
    right = [answer == truth for answer, (_, truth) in zip(given[name], labelled, strict=True)]
    if "other weights" in PEERS[name][1]:
        return row | {"accuracy": None}
    row |= {"accuracy": round(sum(right) / len(right), 4), "num_right": sum(right), "num_clips": len(right)}
    if OURS in given:
        agreeing = sum(mine == ours for mine, ours in zip(given[name], given[OURS], strict=True))
        row["same_label_as_reelkind"] = round(agreeing / len(right), 4)
    return row


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def page(report: Mapping[str, Any]) -> str:
    """The report, Markdown."""
    where, plan = report["environment"], report["plan"]
    frames, size, *_ = where["clip"]
    parts = [
        "# File to label, by reelkind and by others",
        f"{where['clips']} clips, {frames} frames of {size} px each, {where['callers']} callers at once; medians of "
        f"{plan['repeats']} rounds that alternate (least .. most), warm-up dropped. `x` is reelkind's clips a second "
        "divided by the row's, the median over the rounds. Ready: from nothing to the first label.",
        peer_table(report["rows"]),
        "![rates]",
        "## How each was run",
        "\n".join(f"- {row['name']}: {row['execution']}" for row in report["rows"]),
        "## Environment",
        conditions(where),
    ]
    return "\n\n".join(parts) + "\n"


def peer_table(rows: Sequence[Row]) -> str:
    """Clips a second and accuracy, Markdown."""
    cells = []
    for row in rows:
        if "reason" in row:
            cells.append((row["name"], row["reason"], "", "", "", ""))
            continue
        rate = f"{number(row['clips_per_s'])} ({number(row['clips_per_s_low'])} .. {number(row['clips_per_s_high'])})"
        right = f"{row['num_right']} of {row['num_clips']}" if row["accuracy"] is not None else "other weights"
        same = f"{row['same_label_as_reelkind']:.0%}" if "same_label_as_reelkind" in row else "-"
        ratio = number(row.get("reelkind_to_this"))
        cells.append((row["name"], rate, ratio, right, same, f"{row['start_s']:.1f} s"))
    return table(("", "clips/s", "x", "right", "same label as reelkind", "ready"), cells)


def draw_rates(axes: Any, rows: Sequence[Row]) -> None:
    """A bar a peer, with the range of its rounds."""
    measured = [row for row in rows if "clips_per_s" in row][::-1]
    middles = [row["clips_per_s"] for row in measured]
    errors = [
        [row["clips_per_s"] - row["clips_per_s_low"] for row in measured],
        [row["clips_per_s_high"] - row["clips_per_s"] for row in measured],
    ]
    axes.barh([row["name"] for row in measured], middles, xerr=errors)
    axes.set(xlabel="clips a second", title="File to label")


PLOTS = {"rates": draw_rates}
