"""Latency and throughput of every way to run every network, beside what the card can do at best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from reelkind.benchmarks.gpu import executors as ways
from reelkind.benchmarks.gpu.executors import Executor
from reelkind.benchmarks.gpu.report import Report
from reelkind.core.bundle import Bundle
from reelkind.core.cuda import Device
from reelkind.core.specs import Graph
from reelkind.export.parity.half_check import any_input
from reelkind.export.pipelines.arithmetic import operations
from reelkind.export.repository.graph_files import find_graph_file

SHAPES = ((1, 1, 1), (1, 1, 16), (4, 1, 16), (4, 4, 16))  # B, V, T
HEAD_SHAPE = [1, 1, 16]  # at which a head's executor is chosen: one clip, as it is mostly asked


def measure_speed(
    bundles: Sequence[Bundle], device: Device, libraries: Sequence[str], work: Path, num_runs: int, report: Report
) -> None:
    """Time everything that can be timed here; rows go into the report one by one."""
    peak = report.content["peaks"].get("fp16_tflops")
    rows: list[dict[str, Any]] = report.content.setdefault("speed", [])
    for bundle in bundles:
        for graph in ways.networks(bundle):
            model = onnx.load(find_graph_file(graph, {bundle.name: bundle}))
            num_operations = operations(model, any_input(graph, 1))
            for name, make in _makers(bundle, graph, device, libraries, work).items():
                executor = report.attempt(f"{graph.name} with {name}", make)
                if executor is None:
                    continue
                for shape in SHAPES:
                    step = f"{graph.name} with {name} at {shape}"
                    row = report.attempt(step, ways.measure, executor, graph, shape, num_runs, num_operations)
                    if row:
                        rows.append(row | ({"fraction_of_peak": row["tflops"] / peak} if peak else {}))
                executor.close()
    report.content["head_backend"] = better_heads(rows)


def better_heads(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """For each head the quicker of TensorRT and ONNX Runtime's CUDA provider from host to host, if both were timed."""
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["graph"].startswith("head_") and row["shape"] == HEAD_SHAPE:
            times.setdefault(row["graph"], {})[row["executor"]] = row["host_median_ms"]
    candidates = ("tensorrt", ways.ONNX_RUNTIME)
    return {
        graph: min(candidates, key=found.__getitem__)
        for graph, found in times.items()
        if all(name in found for name in candidates)
    }


def _makers(
    bundle: Bundle, graph: Graph, device: Device, libraries: Sequence[str], work: Path
) -> dict[str, Callable[[], Executor]]:
    makers: dict[str, Callable[[], Executor]] = {
        name: partial(ways.torch_executor, bundle, graph, name) for name in ways.TORCH
    }
    makers[ways.ONNX_RUNTIME] = partial(ways.onnx_executor, bundle, graph, "fp16")
    for library in libraries:
        makers[library] = partial(ways.engine_executor, bundle, graph, work / library, device, library)
    return makers
