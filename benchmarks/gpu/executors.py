"""Ways to run one graph on a GPU, each as a thing that can be timed: PyTorch, ONNX Runtime, TensorRT."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.cuda import Device
from reelkind.core.specs import Graph
from reelkind.export.graphs.checkpoint import load_modules
from reelkind.export.parity.half_check import any_input
from reelkind.export.repository.graph_files import find_graph_file
from reelkind.export.tensorrt.engines import build_engines, plan_engines
from reelkind.serving.runner.tensorrt_runtime import Engine

ONNX_RUNTIME = "ONNX Runtime CUDA"
EAGER, RECORDED, COMPILED = TORCH = ("PyTorch eager", "PyTorch CUDA graph", "torch.compile")

WARMUP_RUNS = 10

Times = Callable[[np.ndarray, int], list[float]]
"""An input and a number of runs -> milliseconds of each."""


@dataclass(frozen=True)
class Executor:
    """One way to run a graph.

    Attributes:
        name: e.g. ``"TensorRT"``.
        clock: ``"device"`` where copies from and to the host are left out, ``"wall"`` where they are part of it.
        times_ms: runs it; the first runs, which load and tune, are done before.
        host_times_ms: likewise by the wall, copies from and to the host included, as a server runs it; None where
            nobody serves it this way.
        close: gives memory of the card back that garbage collection does not.
    """

    name: str
    clock: str
    times_ms: Times
    host_times_ms: Times | None = None
    close: Callable[[], None] = lambda: None


def torch_executor(bundle: Bundle, graph: Graph, name: str) -> Executor:
    """PyTorch in FP16, one of ``TORCH``; the input lies on the card."""
    import torch

    backbone, head = load_modules(bundle)
    module: Any = backbone.half().cuda() if graph.kind == "backbone" else head.half().cuda()
    if graph.kind == "backbone":
        module = module.to(memory_format=torch.channels_last)
    num_folded = 3 if graph.kind == "backbone" else 2

    def run(tensor: Any) -> Any:
        folded = tensor.flatten(0, num_folded - 1)
        return module(folded.half() if folded.is_floating_point() else folded)

    work: Callable[[Any], Any] = torch.compile(run, mode="max-autotune-no-cudagraphs") if name == COMPILED else run
    return Executor(name, "device", _torch_times(work, as_graph=name == RECORDED))


def onnx_executor(bundle: Bundle, graph: Graph, precision: str) -> Executor:
    """ONNX Runtime's CUDA provider, inputs and outputs on the host.

    Raises:
        RuntimeError: if this onnxruntime has no such provider, or it does not start.
    """
    from reelkind.export.pipelines.onnx_runtime import onnxruntime

    provider = "CUDAExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"this onnxruntime has no {provider}")
    file = find_graph_file(graph, {bundle.name: bundle}, precision)
    session = onnxruntime.InferenceSession(str(file), providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} does not start here")
    (port,) = session.get_inputs()
    times = _wall_times(lambda array: session.run(None, {port.name: array}))
    return Executor(ONNX_RUNTIME, "wall", times, times)


def engine_executor(bundle: Bundle, graph: Graph, folder: Path, device: Device, library: str) -> Executor:
    """An FP16 engine, built if it is not in the folder."""
    plans = [plan for plan in plan_engines([bundle], "fp16") if plan.graph.name == graph.name]
    (file,) = build_engines(plans, folder, device, library)
    engine = Engine(file.path, device, library)
    (port,) = engine.inputs

    def times(array: np.ndarray, num_runs: int) -> list[float]:
        engine.times_ms({port.name: array}, WARMUP_RUNS)
        return engine.times_ms({port.name: array}, num_runs)

    host_times = _wall_times(lambda array: engine.run({port.name: array}))
    return Executor(library, "device", times, host_times, engine.close)


def measure(
    executor: Executor, graph: Graph, shape: tuple[int, int, int], num_runs: int, num_operations: int
) -> dict[str, Any]:
    """Median and spread of one executor at one shape, and the rate of frames and arithmetic that comes to.

    Args:
        executor: what is timed.
        graph: what it runs.
        shape: B, V, T.
        num_runs: timed runs.
        num_operations: arithmetic of one frame.
    """
    num_videos, num_views, num_frames = shape
    noise = any_input(graph, num_frames, num_videos, num_views)
    times = sorted(executor.times_ms(noise, num_runs))
    median = statistics.median(times)
    host_times = executor.host_times_ms(noise, num_runs) if executor.host_times_ms else None
    num_frames *= num_videos * num_views
    return {
        "graph": graph.name,
        "executor": executor.name,
        "clock": executor.clock,
        "shape": list(shape),
        "runs": num_runs,
        "median_ms": median,
        "p95_ms": times[min(len(times) - 1, int(0.95 * len(times)))],
        "least_ms": times[0],
        "host_median_ms": statistics.median(host_times) if host_times else None,
        "frames_per_second": 1e3 * num_frames / median,
        "tflops": num_operations * num_frames / median / 1e9,
    }


def networks(bundle: Bundle) -> list[Graph]:
    """What of a member runs on a GPU."""
    return [specs.backbone_graph(bundle), specs.head_graph(bundle)]


def _wall_times(run: Callable[[np.ndarray], object]) -> Times:
    def times(array: np.ndarray, num_runs: int) -> list[float]:
        for _ in range(WARMUP_RUNS):
            run(array)
        found = []
        for _ in range(num_runs):
            start = time.perf_counter()
            run(array)
            found.append(1e3 * (time.perf_counter() - start))
        return found

    return times


def _torch_times(run: Callable[[Any], Any], *, as_graph: bool = False) -> Times:
    """Times by CUDA events; the input lies on the card."""

    def times(array: np.ndarray, num_runs: int) -> list[float]:
        import torch

        with torch.inference_mode():
            tensor = torch.from_numpy(array).cuda()
            work = _recorded(run, tensor) if as_graph else lambda: run(tensor)
            for _ in range(WARMUP_RUNS):
                work()
            cuda: Any = torch.cuda
            marks = [cuda.Event(enable_timing=True) for _ in range(num_runs + 1)]
            marks[0].record()
            for mark in marks[1:]:
                work()
                mark.record()
            torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairwise(marks)]

    return times


def _recorded(run: Callable[[Any], Any], tensor: Any) -> Callable[[], None]:
    import torch

    cuda: Any = torch.cuda
    side = cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # what is chosen and allocated on the first runs must not be recorded
            run(tensor)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(tensor)
    replay: Callable[[], None] = graph.replay
    return replay
