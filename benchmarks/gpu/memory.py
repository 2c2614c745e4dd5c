"""Device memory of all members at their largest inputs, under the cap of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reelkind.benchmarks.gpu.limits import memory_cap
from reelkind.core.bundle import Bundle
from reelkind.core.cuda import Device
from reelkind.core.specs import Graph
from reelkind.export.errors import ExportError
from reelkind.export.parity.half_check import any_input
from reelkind.export.tensorrt.engines import build_engines, plan_engines
from reelkind.serving.runner.tensorrt_runtime import Engine

_GB = 10**9


def peak_memory(bundles: Sequence[Bundle], device: Device, folder: Path, library: str, cap_gb: float) -> dict[str, Any]:
    """Load every engine and run each at the largest input of its profile, all views of all videos.

    Returns:
        Bytes of each engine and its activations, and what all of them took together.

    Raises:
        ExportError: if an engine's inputs and outputs are not those of its config.pbtxt.
    """
    files = list(build_engines(plan_engines(bundles, "fp16"), folder, device, library))
    with memory_cap(device, int(cap_gb * _GB)):
        before = device.free_bytes()
        engines = {file.graph.name: (file, Engine(file.path, device, library)) for file in files}
        for file, engine in engines.values():
            check_border(file.graph, engine)
            (port,) = engine.inputs
            videos, views, frames = port.largest[:3]
            engine.run({port.name: any_input(file.graph, frames, videos, views)})
        used = before - device.free_bytes()
        for _, engine in engines.values():
            engine.close()
    return {
        "cap_bytes": int(cap_gb * _GB),
        "used_bytes": used,
        "engines": {
            name: {"engine_bytes": file.path.stat().st_size, "context_bytes": engine.context_bytes}
            for name, (file, engine) in engines.items()
        },
    }


def check_border(graph: Graph, engine: Engine) -> None:
    """Compare an engine's own description of its inputs and outputs with what config.pbtxt is generated from.

    Raises:
        ExportError: naming what differs.
    """
    for side, ports, specs in (("input", engine.inputs, graph.inputs), ("output", engine.outputs, graph.outputs)):
        found = {port.name: (port.dtype, tuple(port.shape)) for port in ports}
        wanted = {spec.name: (spec.dtype, spec.shape) for spec in specs}
        if found != wanted:
            raise ExportError(f"{graph.name}: the engine's {side}s are {found}, config.pbtxt says {wanted}")
