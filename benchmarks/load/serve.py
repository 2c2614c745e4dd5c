"""A server under perf_analyzer's load: throughput, latencies and stages of its ensembles and composing models.

Every setting (a model and a load) is warmed up first, then all settings take turns for several repeats, so that a slow
minute of the machine hits each of them; a row has the median of the repeats and their spread. Open loops come last:
their rates are shares of what the closed loops have reached.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient

from reelkind.benchmarks import environment
from reelkind.benchmarks.labelled_clips import sample_paths
from reelkind.benchmarks.load import real_inputs, stage_times
from reelkind.benchmarks.load.perf_analyzer import (
    PERCENTILES,
    Load,
    Measured,
    PerfAnalyzer,
    PerfAnalyzerError,
    find_perf_analyzer,
)
from reelkind.benchmarks.load.real_inputs import Models, ModelsError
from reelkind.benchmarks.reports import Row, spread
from reelkind.core.specs import DEFAULT_ENSEMBLE
from reelkind.deployment.embedded import embedded_server
from reelkind.video import clip as video

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        models: names; empty for all that real frames reach.
        concurrencies: of closed loops.
        batches: videos in a request, of closed loops with the smallest concurrency.
        shares: of a model's capacity, rates of open loops; the capacity is its best closed loop.
        ways: ``False`` for the wire, ``True`` for system shared memory.
        repeats: of every setting.
        window_s: how long a repeat takes, at least.
        min_requests: of a repeat, however slow the model.
        min_random: of a repeat of an open loop, whose p99 wants more than a hundred.
        composing_fully: whether composing models get all loads where no models are named; where some are, what those
            are made of gets the smallest concurrency over the wire alone.
    """

    models: tuple[str, ...] = ()
    concurrencies: tuple[int, ...] = (1, 2, 4, 8)
    batches: tuple[int, ...] = (1, 2, 4)
    shares: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9, 1.0, 1.2, 1.5)
    ways: tuple[bool, ...] = (False, True)
    repeats: int = 3
    window_s: float = 5.0
    min_requests: int = 24
    min_random: int = 150
    composing_fully: bool = True

    def closed(self, models: Models, name: str) -> list[Load]:
        """Closed loops of a model."""
        least = min(self.concurrencies)
        if not self._fully(models, name):
            return [Load(name, least)]
        loads = [Load(name, number, shared_memory=way) for way in self.ways for number in self.concurrencies]
        batched = [batch for batch in self.batches if 1 < batch <= models.max_batch(name)]
        return loads + [Load(name, least, batch=batch) for batch in batched]

    def open(self, models: Models, name: str, capacity: float) -> list[Load]:
        """Open loops of a model."""
        if not self._fully(models, name):
            return []
        return [Load(name, rate=share * capacity) for share in self.shares]

    def _fully(self, models: Models, name: str) -> bool:
        return name in self.models if self.models else self.composing_fully or models.is_ensemble(name)


QUICK = Plan(
    models=(DEFAULT_ENSEMBLE,),
    concurrencies=(1, 2),
    batches=(1, 2),
    shares=(0.7, 1.5),
    window_s=1.5,
    min_requests=6,
    min_random=24,
    composing_fully=False,
)
"""Three minutes on two cores: the default ensemble under all kinds of load, and each of its models alone."""


class Bench:
    """A running server and a perf_analyzer that asks it.

    Args:
        tool: perf_analyzer.
        url: ``host:port`` of the server's gRPC endpoint.
        inputs: model -> JSON file of real inputs.
        models: what the server serves.
        plan: how long and how often.
        progress: called with one line a setting and pass.
    """

    def __init__(
        self, tool: PerfAnalyzer, url: str, inputs: Mapping[str, Path], models: Models, plan: Plan, progress: Progress
    ) -> None:
        self._tool, self._url, self._inputs, self._models = tool, url, inputs, models
        self._plan, self._progress = plan, progress
        self._statistics = InferenceServerClient(url)

    def rows(self, names: Sequence[str]) -> list[Row]:
        """Closed loops, then open ones, of these models."""
        closed = self._measure([load for name in names for load in self._plan.closed(self._models, name)])
        capacities = {name: max(row.get("throughput", 0) for row in closed if row["model"] == name) for name in names}
        opened = self._measure(
            [
                load
                for name in names
                if capacities[name]
                for load in self._plan.open(self._models, name, capacities[name])
            ]
        )
        for row in opened:
            row["of_capacity"] = round(row["rate"] / capacities[row["model"]], 2)
        return closed + opened

    def _measure(self, loads: Sequence[Load]) -> list[Row]:
        runs: dict[Load, list[tuple[Measured, dict[str, Any]]]] = {load: [] for load in loads}
        failures: dict[Load, str] = {}
        latencies: dict[Load, float] = {}
        for repeat in range(-1, self._plan.repeats):  # the first warms up and tells how long a request takes
            for load in list(loads)[:: 1 if repeat % 2 else -1]:
                if load in failures:
                    continue
                try:
                    found = self._run(load, latencies.get(load), seed=repeat + 1)
                except PerfAnalyzerError as error:
                    failures[load] = str(error)
                    continue
                latencies[load] = found[0].percentiles_ms[50]
                if repeat >= 0:
                    runs[load].append(found)
            self._progress(f"{'warm-up' if repeat < 0 else f'repeat {repeat + 1} of {self._plan.repeats}'} done")
        return [row(load, runs[load], self._models.is_ensemble(load.model), failures.get(load)) for load in loads]

    def _run(self, load: Load, latency_ms: float | None, seed: int) -> tuple[Measured, dict[str, Any]]:
        file = self._inputs[load.model]
        in_flight = load.concurrency or 1
        if latency_ms is None:
            num_requests = max(2 * in_flight, math.ceil(load.rate or 0))  # it takes no fewer than come in a second
            return self._tool.warm_up(load, self._url, num_requests, file), {}
        rate = in_flight * 1000 / latency_ms if load.rate is None else load.rate
        least = self._plan.min_requests if load.rate is None else self._plan.min_random
        window_s = max(self._plan.window_s, least / rate)
        before = stage_times.snapshot(self._statistics)
        measured = self._tool.run(load, self._url, window_s, file, seed=seed)
        after = stage_times.snapshot(self._statistics)
        return measured, stage_times.between(before, after, load.model, self._models.steps(load.model))

    def close(self) -> None:
        """Give the connection back."""
        self._statistics.close()


def row(
    load: Load, runs: Sequence[tuple[Measured, dict[str, Any]]], is_ensemble: bool, failure: str | None = None
) -> Row:
    """One line of the report: the load, and medians of its repeats; the reason where it could not be run."""
    loop = {"rate": round(load.rate, 3)} if load.rate is not None else {"concurrency": load.concurrency}
    found: Row = {
        "model": load.model,
        "kind": "ensemble" if is_ensemble else "composing",
        **loop,
        "batch": load.batch,
        "shared_memory": load.shared_memory,
    }
    if failure is not None or not runs:
        return found | {"reason": failure or "no repeat was asked for"}
    rates = spread([measured.throughput for measured, _ in runs])
    latencies = {
        f"p{percentile}_ms": spread([measured.percentiles_ms[percentile] for measured, _ in runs])
        for percentile in PERCENTILES
    }
    stages = [spent for _, spent in runs if spent]
    times = {
        key: round(statistics.median(spent[key] for spent in stages), 3)
        for key in ("server_ms", "queue_ms", "input_ms", "infer_ms", "output_ms")
        if stages
    }
    return found | {
        "throughput": rates["median"],
        "throughput_low": rates["low"],
        "throughput_high": rates["high"],
        **{name: found["median"] for name, found in latencies.items()},
        "mean_ms": round(statistics.median(measured.mean_ms for measured, _ in runs), 3),
        **times,
        "requests": sum(measured.num_requests for measured, _ in runs),
        "repeats": [
            {"throughput": measured.throughput, **{f"p{p}_ms": value for p, value in measured.percentiles_ms.items()}}
            for measured, _ in runs
        ],
        "stages": stages[len(stages) // 2]["stages"] if stages else {},
    }


def measure(
    plan: Plan,
    folders: Sequence[Path] = (),
    url: str | None = None,
    *,
    progress: Progress,
    num_frames: int | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """A report of a server.

    Args:
        plan: what is measured.
        folders: bundles to serve on this machine; the packaged one if empty. Of no use with ``url``.
        url: of a server that runs already.
        progress: called with one line at each step.
        num_frames: T of the real clips; default: what the server's default model was trained with.
        quick: whether the report should say that it was a short one.

    Raises:
        ReelkindError: one sentence, if the tool, the server or a model cannot be had.
    """
    tool = find_perf_analyzer(progress)
    machine = environment.describe()
    with ExitStack() as stack:
        if url is None:
            wanted = plan.models if plan.models == (DEFAULT_ENSEMBLE,) else None
            server = stack.enter_context(embedded_server(folders, ensembles=wanted, progress=progress))
            url = server.url
        models = Models(url)
        stack.callback(models.close)
        inputs = models.inputs(_clips(models, num_frames))
        names = _chosen(plan, models, inputs)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reelkind-bench-")))
        files = {}
        for name in names:
            files[name] = scratch / f"{name}.json"
            real_inputs.write(inputs[name], files[name])
        bench = Bench(tool, url, files, models, plan, progress)
        stack.callback(bench.close)
        progress(f"{tool.tool} asks {len(names)} models of {models.server}")
        rows = bench.rows(names)
        return {
            "what": "a server under load: closed and open loops, latencies at the client, stages by Triton",
            "tool": tool.tool,
            "environment": machine | _served(models, next(iter(inputs.values()))),
            "plan": {"repeats": plan.repeats, "window_s": plan.window_s, "quick": quick},
            "rows": rows,
        }


def _chosen(plan: Plan, models: Models, inputs: Mapping[str, object]) -> list[str]:
    """The models to ask, ensembles first; of those named, also what they are made of."""
    unknown = [name for name in plan.models if name not in inputs]
    if unknown:
        raise ModelsError(f"the server has no model {', '.join(unknown)} (it has: {', '.join(inputs)})")
    if not plan.models:
        return [name for name in models.names if name in inputs]
    composing = [step for name in plan.models for step in models.steps(name)]
    return list(dict.fromkeys([*plan.models, *composing]))


def _clips(models: Models, num_frames: int | None) -> list[np.ndarray]:
    """The samples as a client decodes them for the default ensemble: uint8 [T, S, S, 3] each."""
    ensembles = [name for name in models.names if models.parameter(name, "num_frames")]
    if not ensembles:
        raise ModelsError("the server has no ensemble of reelkind: none says how many frames it takes")
    asked = DEFAULT_ENSEMBLE if DEFAULT_ENSEMBLE in ensembles else ensembles[0]
    size = int(models.parameter(asked, "frame_size_px"))
    frames = num_frames or int(models.parameter(asked, "num_frames"))
    return [video.read_clip(path, num_frames=frames, size_px=size).frames for path in sample_paths()]


def _served(models: Models, feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Any]:
    ensembles = [name for name in models.names if models.is_ensemble(name)]
    asked = DEFAULT_ENSEMBLE if DEFAULT_ENSEMBLE in ensembles else ensembles[0]
    backbone = next((step for step in models.steps(asked) if step.startswith("backbone")), asked)
    members, weights = (models.parameter(asked, key).split(",") for key in ("members", "weights"))
    return {
        "server": models.server,
        "flavour": models.backend(backbone),
        "precision": models.parameter(asked, "precisions") or "fp32",
        "weights_sha256": dict(zip(members, weights, strict=True)),
        "input": {name: list(array.shape) for name, array in feeds[0].items()},
        "clips": [path.name for path in sample_paths()],
        "affinity": len(os.sched_getaffinity(0)),
    }


def narrowed(plan: Plan, **changes: Any) -> Plan:
    """The plan with what was given; None leaves it."""
    return replace(plan, **{name: value for name, value in changes.items() if value is not None})
