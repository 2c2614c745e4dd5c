"""The parity ladder on a card: PyTorch FP32 on the CPU, the exported graphs, and engines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from reelkind.core.bundle import Bundle
from reelkind.core.cuda import Device
from reelkind.core.specs import FP16_TOLERANCE, Graph
from reelkind.export.parity.divergence import locate, onnx_layers
from reelkind.export.parity.half_emulation import with_rounding
from reelkind.export.parity.ladder import Rung, as_json, climb, table
from reelkind.export.pipelines.clips import ParityClip
from reelkind.export.pipelines.intermediates import with_outputs
from reelkind.export.pipelines.reference import OnnxPipeline
from reelkind.export.pipelines.torch_pipeline import TorchPipeline
from reelkind.export.repository.engine_files import engine_path
from reelkind.export.tensorrt.engines import build_engines, plan_engines
from reelkind.export.tensorrt.networks import Network, load_library
from reelkind.serving.runner.tensorrt_runtime import Engine, as_stage


def climb_on_gpu(
    bundle: Bundle, clips: Iterable[ParityClip], device: Device, work: Path, libraries: Sequence[str]
) -> dict[str, Any]:
    """The ladder of one member, with its table as text."""
    single = OnnxPipeline(bundle.path())
    half = OnnxPipeline(bundle.path(), precision="fp16")
    stored = OnnxPipeline(bundle.path(), precision="fp16", prepare=with_rounding)
    rungs = [
        Rung("ONNX FP32", single),
        Rung("ONNX FP16", half, FP16_TOLERANCE),
        Rung("FP16 as stored", stored, FP16_TOLERANCE),
    ]
    for name in libraries:
        pipeline = _engine_pipeline(bundle, device, work / name, name)
        where = partial(_locate, single, half, pipeline, device, work / name, name)
        rungs.append(Rung(name, pipeline, FP16_TOLERANCE, where))
    reports = climb(TorchPipeline([bundle]), rungs, clips)
    return as_json(reports, [bundle], clips=sorted({clip.name for clip in clips})) | {
        "table": table(reports, "PyTorch")
    }


def _engine_pipeline(bundle: Bundle, device: Device, folder: Path, library: str) -> OnnxPipeline:
    files = build_engines(plan_engines([bundle], "fp16"), folder, device, library)
    stages = {
        file.graph.name: as_stage(
            Engine(engine_path(folder, file.graph), device, library), [spec.name for spec in file.graph.outputs]
        )
        for file in files
    }
    return OnnxPipeline(bundle.path(), replaced=stages)


def _locate(
    single: OnnxPipeline,
    half: OnnxPipeline,
    engines: OnnxPipeline,
    device: Device,
    folder: Path,
    library: str,
    frames: np.ndarray,
) -> str:
    """Where engines part from the FP32 graphs; for that they are built once more, all their tensors being outputs."""

    def layers(graph: Graph, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        watched = with_outputs(half.model(graph))
        plan = folder / f"{graph.name}.watched.plan"
        plan.write_bytes(_build(load_library(library), graph, watched))
        engine = Engine(plan, device, library)
        (port,) = engine.inputs
        made = engine.run({port.name: inputs[0]})
        return {output.name: array for output, array in zip(engine.outputs, made, strict=True)}

    return locate(
        single.ensemble,
        single(frames),
        engines(frames),
        FP16_TOLERANCE.layer_error,
        model_of=single.model,
        expected_layers=onnx_layers(single.model),
        given_layers=layers,
    )


def _build(library: Any, graph: Graph, model: onnx.ModelProto) -> bytes:
    engine, _ = Network(library, graph, model, watched=True).build()
    return engine
