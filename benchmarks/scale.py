"""What a clip costs against what it depends on: frames, views, members, length of the video, clients at once.

Each axis is measured by itself at several places that take turns; printed are the cost at each place, the slope of the
line through them (least squares), and how the cost a unit differs between the last place and the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.labelled_clips import sample_paths
from reelkind.benchmarks.numbered_video import Made, make
from reelkind.benchmarks.reports import Row, conditions, number, spread, table
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core import specs
from reelkind.core.files.user_cache import user_cache
from reelkind.core.specs import ALL_MEMBERS
from reelkind.deployment.embedded import embedded_server, packaged_bundle
from reelkind.video import clip as video

Progress = Callable[[str], None]
Points = Mapping[float, Callable[[], object]]
"""Place on an axis -> what is timed."""

UNITS = {
    "frames": "frame",
    "views": "view",
    "members": "member",
    "video length": "second",
    "clients": "clip, by clients at once",
}
"""Axis -> what one unit of it is."""

_CLIPS_A_CLIENT = 3


def measure(member: str, *, quick: bool, repeats: int, progress: Progress) -> dict[str, Any]:
    """A report of all axes.

    Args:
        member: a packaged one; another is served beside it for the axis of members.
        quick: fewer and smaller places.
        repeats: of each place, after one that is dropped.
        progress: called with one line an axis.

    Raises:
        ReelkindError: if there is no such member, or the server does not start.
    """
    folders = _folders(member)
    bundle = bundles.load(folders[0])
    groups = [bundles.load(folder).name for folder in folders] + [ALL_MEMBERS]
    wanted = {specs.classify_name(group) for group in (None, *groups)} | {specs.classify_name(tta="full")}
    machine = environment.describe()
    with ExitStack() as stack:
        server = stack.enter_context(embedded_server(folders, ensembles=sorted(wanted), progress=progress))

        def connect(**options: Any) -> Client:
            return stack.enter_context(Client(server.url, timeout_s=600, **options))

        axes: dict[str, Points] = {
            "frames": _frame_points(connect(), bundle, (4, 8, 16) if quick else (8, 16, 32, 64, 128)),
            "views": _view_points(connect(), connect(tta="full"), bundle),
            "members": _member_points([connect(member=groups[0]), connect(member=ALL_MEMBERS)], bundle),
            "video length": _length_points(connect(), (10, 60) if quick else (10, 60, 300, 1800)),
            "clients": _client_points(connect(), bundle, (1, 2, 4) if quick else (1, 2, 4, 8, 16)),
        }
        rows: list[Row] = []
        for axis, points in axes.items():
            rows += measure_axis(axis, points, repeats)
            progress(f"{axis} measured")
    return {
        "what": "what a clip costs against frames, views, members, length of the video and clients at once",
        "environment": machine | {"members": groups[:2], "weights_sha256": bundles.weights_hash(bundle)},
        "plan": {"repeats": repeats, "quick": quick},
        "slopes": slopes(rows),
        "rows": rows,
    }


def measure_axis(axis: str, points: Points, repeats: int) -> list[Row]:
    """A row a place; the places take turns."""
    times: dict[float, list[float]] = {place: [] for place in points}
    for repeat in range(-1, repeats):
        for place in list(points)[:: 1 if repeat % 2 else -1]:
            began = time.perf_counter()
            points[place]()
            if repeat >= 0:
                times[place].append(1000 * (time.perf_counter() - began))
    rows = []
    for place, found in times.items():
        num_clips = place * _CLIPS_A_CLIENT if axis == "clients" else 1
        middle = spread([taken / num_clips for taken in found])
        per_unit = middle["median"] if axis == "clients" else middle["median"] / place
        rows.append(
            {
                "axis": axis,
                "at": place,
                "ms": middle["median"],
                "ms_low": middle["low"],
                "ms_high": middle["high"],
                "ms_a_unit": round(per_unit, 4),
            }
        )
    return rows


def slopes(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Axis -> milliseconds a unit more, milliseconds at none, cost a unit at the last place to that at the first."""
    found = {}
    for axis in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == axis]
        slope, at_none = np.polyfit([row["at"] for row in mine], [row["ms"] for row in mine], 1)
        found[axis] = {
            "ms_a_unit_more": round(float(slope), 4),
            "ms_at_none": round(float(at_none), 4),
            "last_to_first": round(mine[-1]["ms_a_unit"] / mine[0]["ms_a_unit"], 3),
        }
    return found


def _folders(member: str) -> list[Path]:
    """The member's bundle and another one's."""
    folder = packaged_bundle(member)
    if folder.name != member:
        raise bundles.BundleError(f"no packaged member is called {member}")
    return [folder, packaged_bundle("lite2" if member == "lite" else "lite")]


def _frame_points(client: Client, bundle: bundles.Bundle, lengths: Sequence[int]) -> Points:
    path, size = next(path for path in sample_paths() if path.name.startswith("natural")), bundle.backbone.frame_size_px
    clips = {length: video.read_clip(path, num_frames=length, size_px=size).frames for length in lengths}
    return {length: partial(client.classify_frames, clip) for length, clip in clips.items()}


def _view_points(single: Client, full: Client, bundle: bundles.Bundle) -> Points:
    clip = _clip(bundle)
    return {
        1: partial(single.classify_frames, clip),
        len(specs.VIEWS["tta"]): partial(full.classify_frames, clip),
    }


def _member_points(clients: Sequence[Client], bundle: bundles.Bundle) -> Points:
    clip = _clip(bundle)
    return {number: partial(client.classify_frames, clip) for number, client in enumerate(clients, 1)}


def _length_points(client: Client, lengths_s: Sequence[int]) -> Points:
    folder = user_cache("bench-videos")
    videos = {seconds: make(Made("h264", 540, seconds, 10), folder) for seconds in lengths_s}
    return {seconds: partial(client.classify, path) for seconds, path in videos.items()}


def _client_points(client: Client, bundle: bundles.Bundle, numbers: Sequence[int]) -> Points:
    clip = _clip(bundle)

    def ask(number: int) -> None:
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(client.classify_frames, [clip] * (number * _CLIPS_A_CLIENT)))

    return {number: partial(ask, number) for number in numbers}


def _clip(bundle: bundles.Bundle) -> np.ndarray:
    size = bundle.backbone.frame_size_px
    return video.read_clip(sample_paths()[0], num_frames=bundle.num_frames, size_px=size).frames


def page(report: Mapping[str, Any]) -> str:
    """The report, Markdown."""
    parts = [
        "# What a clip costs",
        f"Milliseconds, medians of {report['plan']['repeats']} repeats (least .. most), warm-up dropped.",
        slope_table(report["slopes"]),
        table(
            ("axis", "at", "ms", "ms a unit"),
            [
                (
                    row["axis"],
                    number(row["at"]),
                    f"{number(row['ms'])} ({number(row['ms_low'])} .. {number(row['ms_high'])})",
                    number(row["ms_a_unit"]),
                )
                for row in report["rows"]
            ],
        ),
        "![cost]",
        "## Environment",
        conditions(report["environment"]),
    ]
    return "\n\n".join(parts) + "\n"


def slope_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """A line an axis, Markdown."""
    cells = [
        (
            axis,
            f"{number(each['ms_a_unit_more'])} ms a {UNITS[axis]} more",
            f"{number(each['ms_at_none'])} ms",
            f"{each['last_to_first']:.2f}",
        )
        for axis, each in found.items()
    ]
    return table(("axis", "slope", "at none", "cost a unit, last place to first"), cells)


def draw_cost(axes: Any, rows: Sequence[Row]) -> None:
    """Cost a unit against the place, relative to the first place of its axis."""
    for axis in dict.fromkeys(row["axis"] for row in rows):
        mine = [row for row in rows if row["axis"] == axis]
        first = mine[0]["ms_a_unit"]
        axes.plot([row["at"] for row in mine], [row["ms_a_unit"] / first for row in mine], marker="o", label=axis)
    axes.set(xlabel="place on the axis", ylabel="cost a unit, first place = 1", title="Cost", ylim=(0, None))
    axes.set_xscale("log", base=2)
    axes.legend(fontsize=7)


PLOTS = {"cost": draw_cost}
