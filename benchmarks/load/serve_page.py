"""A report of a server under load as a page: tables of closed and open loops, of stages, and their plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reelkind.benchmarks.load import stage_times
from reelkind.benchmarks.load.perf_analyzer import PERCENTILES
from reelkind.benchmarks.reports import Row, conditions, number, table

_NOTE = (
    "Median of the repeats (least .. most). A percentile of fewer requests than it needs is their maximum: p99 wants "
    "100. `mean` is measured at the client, `server` by Triton from a request's arrival to its answer: between are "
    "perf_analyzer, gRPC and the network. `queue`, `input`, `infer` and `output` are Triton's times in the models that "
    "answer."
)


def page(report: Mapping[str, Any]) -> str:
    """The report, Markdown."""
    closed = [found for found in report["rows"] if "concurrency" in found]
    opened = [found for found in report["rows"] if "rate" in found]
    parts = [
        "# A server under load",
        f"{report['tool']}; {report['plan']['repeats']} repeats of each setting, warm-up dropped. {_NOTE}",
        "## Closed loop",
        closed_table(closed),
        "![latency]",
        "## Open loop (Poisson)",
        open_table(opened) if opened else "Not measured.",
        "## Where the time goes",
        stage_table([found for found in closed if found["kind"] == "ensemble"]),
        "![stages]",
        "![scaling]",
        "## Environment",
        conditions(report["environment"]),
    ]
    return "\n\n".join(parts) + "\n"


def closed_table(rows: Sequence[Row]) -> str:
    """Throughput and latencies, Markdown."""
    cells = [
        (
            f"`{found['model']}`",
            str(found["concurrency"]),
            str(found["batch"]),
            "shared memory" if found["shared_memory"] else "wire",
            *_figures(found),
        )
        for found in rows
    ]
    return table(("model", "at once", "batch", "tensors by", *_HEADER), cells)


def open_table(rows: Sequence[Row]) -> str:
    """As ``closed_table``, by the rate at which requests come."""
    cells = [
        (f"`{found['model']}`", number(found["rate"]), f"{found['of_capacity']:.1f}", *_figures(found))
        for found in rows
    ]
    return table(("model", "requests/s", "of capacity", *_HEADER), cells)


_HEADER = ("videos/s", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "mean ms", "server ms", "requests")


def _figures(found: Row) -> list[str]:
    if "reason" in found:
        return [f"not measured: {found['reason']}", *[""] * (len(_HEADER) - 1)]
    rate = f"{number(found['throughput'])} ({number(found['throughput_low'])} .. {number(found['throughput_high'])})"
    latencies = [number(found[f"p{percentile}_ms"]) for percentile in PERCENTILES]
    return [rate, *latencies, number(found["mean_ms"]), number(found.get("server_ms")), str(found["requests"])]


def stage_table(rows: Sequence[Row]) -> str:
    """Milliseconds by stage and step, of single videos over the wire, Markdown."""
    cells = []
    for found in rows:
        if found["batch"] > 1 or found["shared_memory"] or "reason" in found:
            continue
        for step, spent in found["stages"].items():
            shared = f"{spent['videos']} in {spent['executions']}"
            times = [number(spent[f"{stage}_ms"]) for stage in stage_times.STAGES]
            cells.append((f"`{found['model']}`", str(found["concurrency"]), f"`{step}`", *times, shared))
    return table(
        ("model", "at once", "step", *(f"{name} ms" for name in stage_times.STAGES), "videos, executions"), cells
    )


def draw_latency(axes: Any, rows: Sequence[Row]) -> None:
    """Latency against throughput, a line an ensemble: closed loops over the wire, and open loops."""
    for name in dict.fromkeys(found["model"] for found in rows if found["kind"] == "ensemble"):
        mine = [found for found in rows if found["model"] == name and "reason" not in found and found["batch"] == 1]
        for label, key in (("closed", "concurrency"), ("open", "rate")):
            points = sorted((found[key], found) for found in mine if key in found and not found["shared_memory"])
            if points:
                rates, times = zip(*((found["throughput"], found["p95_ms"]) for _, found in points), strict=True)
                axes.plot(rates, times, marker="o", label=f"{name}, {label} loop")
    axes.set(xlabel="videos a second", ylabel="p95 at the client, ms", title="Latency against throughput")
    axes.set_yscale("log")
    axes.legend(fontsize=7)


def draw_stages(axes: Any, rows: Sequence[Row]) -> None:
    """Stacked milliseconds of the stages, a bar an ensemble at its smallest concurrency."""
    singles = [
        found
        for found in rows
        if found["kind"] == "ensemble" and found.get("concurrency") == 1 and found["batch"] == 1
        if "queue_ms" in found and not found["shared_memory"]
    ]
    bottoms = [0.0] * len(singles)
    for stage in stage_times.STAGES:
        values = [found[f"{stage}_ms"] for found in singles]
        axes.barh([found["model"] for found in singles], values, left=bottoms, label=stage)
        bottoms = [bottom + value for bottom, value in zip(bottoms, values, strict=True)]
    axes.set(xlabel="ms of a request", title="Stages, one request at a time")
    axes.legend(fontsize=7)


def draw_scaling(axes: Any, rows: Sequence[Row]) -> None:
    """Throughput against concurrency, a line an ensemble and way."""
    for name in dict.fromkeys(found["model"] for found in rows if found["kind"] == "ensemble"):
        for way in (False, True):
            points = sorted(
                (found["concurrency"], found["throughput"])
                for found in rows
                if found["model"] == name and found["shared_memory"] == way and found["batch"] == 1
                if "concurrency" in found and "throughput" in found
            )
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=f"{name}, {'shared memory' if way else 'wire'}")
    axes.set(xlabel="requests at once", ylabel="videos a second", title="Scaling", ylim=(0, None))
    axes.legend(fontsize=7)


PLOTS = {"latency": draw_latency, "stages": draw_stages, "scaling": draw_scaling}
