"""``reelkind export parity``: the ladder's rungs and where each looks when it fails, or every served ensemble."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelkind.core.files.whole_files import write_json

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle
    from reelkind.core.specs import Tolerance
    from reelkind.export.parity.divergence import Layers
    from reelkind.export.parity.ladder import Rung, RungReport
    from reelkind.export.pipelines.clips import ParityClip
    from reelkind.export.pipelines.reference import OnnxPipeline
    from reelkind.export.pipelines.steps import Stage, Tensors
    from reelkind.export.pipelines.torch_pipeline import TorchPipeline


def _looking(args: argparse.Namespace) -> dict[str, Any]:
    """Views and orders of time that ``--tta`` asks for."""
    from reelkind.core.specs import TTA

    return {"views": TTA[args.tta].views, "temporal": TTA[args.tta].temporal}


def run_ladder(args: argparse.Namespace, bundles: Sequence[Bundle]) -> int:
    """Print the ladder; 1 if a rung fails."""
    from reelkind.export.parity.ladder import as_json, table

    reports = climb_ladder(args, bundles)
    print(table(reports, "PyTorch"))
    if args.json:
        report = as_json(reports, bundles, tta=args.tta, num_frames=list(args.frames), clips=_source(args))
        write_json(args.json, report)
    return 0 if all(report.passed for report in reports) else 1


def run_deployment(args: argparse.Namespace, bundles: Sequence[Bundle]) -> int:
    """Print the table of all ensembles; 1 if one fails."""
    from reelkind.core.bundle import weights_hash
    from reelkind.core.specs import FP16_TOLERANCE, FP32_TOLERANCE, classify_name
    from reelkind.export.parity.deployment_parity import as_json, compare, table
    from reelkind.export.parity.triton_rung import TritonModels

    clips = {count: list(_clips(args, bundles, (count,))) for count in args.frames}
    precision = _server_precision(args, bundles)
    tolerance = FP32_TOLERANCE if precision == "fp32" else FP16_TOLERANCE  # int8 against int8: a step more or less
    reference = "fp32" if precision == "fp16" else precision
    with _server(args) as url:
        assert url is not None
        with closing(TritonModels(url)) as server:
            for bundle in bundles:
                server.require_weights(classify_name(bundle.name), [bundle])
            reports = compare(bundles, server.infer, clips, args.batch, tolerance, reference)
    print(table(reports))
    if args.json:
        report = {
            "reference": "ONNX Runtime sessions and NumPy in one process",
            "bundles": {each.name: {"weights": weights_hash(each), "trained": each.trained} for each in bundles},
            "num_frames": list(args.frames),
            "videos_in_a_request": list(args.batch),
            "clips": _source(args),
            "ensembles": as_json(reports),
            "passed": all(report.passed for report in reports),
        }
        write_json(args.json, report)
    return 0 if all(report.passed for report in reports) else 1


def _server_precision(args: argparse.Namespace, bundles: Sequence[Bundle]) -> str:
    """What the server runs: as it was said, or as `reelkind serve` chooses."""
    if args.server_precision != "auto":
        return str(args.server_precision)
    return "int8" if any(bundle.backbone.storage == "int8" for bundle in bundles) else "fp32"


def climb_ladder(args: argparse.Namespace, bundles: Sequence[Bundle]) -> list[RungReport]:
    """Build the rungs that the arguments name and climb them."""
    from reelkind.export.parity.ladder import climb
    from reelkind.export.pipelines.torch_pipeline import TorchPipeline

    reference = TorchPipeline(bundles, **_looking(args))
    with _server(args) as url:
        return climb(reference, _rungs(args, bundles, reference, url), _clips(args, bundles, args.frames))


def _clips(args: argparse.Namespace, bundles: Sequence[Bundle], num_frames: Sequence[int]) -> Iterable[ParityClip]:
    from reelkind.export.pipelines.clips import default_clips, video_clips

    size = max(bundle.backbone.frame_size_px for bundle in bundles)
    return video_clips(args.clips, size, num_frames) if args.clips else default_clips(size, num_frames)


def _source(args: argparse.Namespace) -> object:
    return [path.name for path in args.clips] if args.clips else "samples and synthetic"


def _rungs(
    args: argparse.Namespace, bundles: Sequence[Bundle], reference: TorchPipeline, url: str | None
) -> list[Rung]:
    from reelkind.core.specs import FP16_TOLERANCE, FP32_TOLERANCE, INT8, INT8_TOLERANCE
    from reelkind.export.parity.divergence import onnx_layers
    from reelkind.export.parity.half_emulation import with_rounding
    from reelkind.export.parity.ladder import Rung
    from reelkind.export.pipelines.reference import OnnxPipeline

    single = OnnxPipeline(args.bundle, **_looking(args))
    look = partial(_locator, reference, single)
    rungs = [Rung("ONNX FP32", single, FP32_TOLERANCE, look(single, FP32_TOLERANCE, onnx_layers(single.model), True))]
    if args.fp16:
        half = OnnxPipeline(args.bundle, **_looking(args), precision="fp16")
        stored = OnnxPipeline(args.bundle, **_looking(args), precision="fp16", prepare=with_rounding)
        layers = onnx_layers(stored.model)
        rungs.append(Rung("ONNX FP16", half, FP16_TOLERANCE, look(half, FP16_TOLERANCE, layers)))
        rungs.append(Rung("FP16 as stored", stored, FP16_TOLERANCE, look(stored, FP16_TOLERANCE, layers)))
    if any(bundle.backbone.storage == INT8 for bundle in bundles):
        integers = OnnxPipeline(args.bundle, **_looking(args), precision=INT8)
        rungs.append(Rung("ONNX int8", integers, INT8_TOLERANCE, look(integers, INT8_TOLERANCE)))
    if args.engines:
        stages = _engine_stages(args.engines, bundles)
        engines = OnnxPipeline(args.bundle, **_looking(args), replaced=stages)
        rungs.append(Rung("engine", engines, FP16_TOLERANCE, look(engines, FP16_TOLERANCE)))
    if url:
        rungs += _server_rungs(args, bundles, url, look)
    return rungs


def _server_rungs(
    args: argparse.Namespace, bundles: Sequence[Bundle], url: str, look: Callable[..., Callable[[np.ndarray], str]]
) -> list[Rung]:
    from reelkind.client import Client
    from reelkind.core.ensembles import classify_ensemble
    from reelkind.core.specs import ALL_MEMBERS, FP16_TOLERANCE, FP32_TOLERANCE, INT8_TOLERANCE, classify_name
    from reelkind.export.parity.ladder import Rung
    from reelkind.export.parity.triton_rung import TritonPipeline

    group = ALL_MEMBERS if len(bundles) > 1 else bundles[0].name
    name = classify_name(group, args.tta)
    tolerances = {"fp16": FP16_TOLERANCE, "int8": INT8_TOLERANCE}
    tolerance: Tolerance = tolerances.get(_server_precision(args, bundles), FP32_TOLERANCE)
    triton, client = TritonPipeline(url, name, bundles), Client(url, member=group, tta=args.tta)

    def trace(frames: np.ndarray) -> Tensors:
        return triton.trace(classify_ensemble(bundles, name, **_looking(args)), frames)

    def ask(frames: np.ndarray) -> Tensors:
        prediction = client.classify_frames(frames[0])
        assert not isinstance(prediction, Sequence)
        found = {
            "probabilities": np.array([list(prediction.scores.values())], np.float32),
            "attention": prediction.attention[None],
        }
        if prediction.frame_scores is not None:
            found["frame_probabilities"] = prediction.frame_scores[None]
        if prediction.subcategories is not None:
            found["subcategories"] = np.array([list(prediction.subcategories.values())], np.float32)
        return found

    return [
        Rung("Triton", triton, tolerance, look(trace, tolerance)),
        Rung("client", ask, tolerance, look(ask, tolerance)),
    ]


def _locator(
    reference: TorchPipeline,
    single: OnnxPipeline,
    trace: Callable[[np.ndarray], Tensors],
    tolerance: Tolerance,
    layers: Layers | None = None,
    against_torch: bool = False,
) -> Callable[[np.ndarray], str]:
    """Finds where a rung parts from the reference; layers are compared with those of the FP32 graph, or PyTorch."""
    from reelkind.export.parity.divergence import locate, onnx_layers

    def torch_layers(graph: object, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return reference.layers(single.model(graph), graph, inputs)  # type: ignore[arg-type]

    def find(frames: np.ndarray) -> str:
        return locate(
            reference.ensemble,
            reference(frames),
            trace(frames),
            tolerance.layer_error,
            model_of=single.model,
            expected_layers=torch_layers if against_torch else onnx_layers(single.model),
            given_layers=layers,
        )

    return find


def _engine_stages(folder: Path, bundles: Sequence[Bundle]) -> dict[str, Stage]:
    """Graph name -> its engine on this machine's card."""
    from reelkind.core import specs
    from reelkind.export.repository.engine_files import find_engine
    from reelkind.export.tensorrt.engines import find_device
    from reelkind.serving.runner.tensorrt_runtime import Engine, as_stage

    device = find_device()
    graphs = [graph(bundle) for bundle in bundles for graph in (specs.backbone_graph, specs.head_graph)]
    members = {bundle.name: bundle for bundle in bundles}
    return {
        graph.name: as_stage(Engine(find_engine(folder, graph, members), device), [spec.name for spec in graph.outputs])
        for graph in graphs
    }


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[str | None]:
    """URL of the server to compare with, if one is wanted; an embedded one lives as long as the comparison."""
    if not args.embedded:
        yield args.url
        return
    from reelkind.deployment.embedded import embedded_server

    with embedded_server(args.bundle, ensembles=_needed(args)) as server:
        yield server.url


def _needed(args: argparse.Namespace) -> list[str] | None:
    from reelkind.core.bundle import load
    from reelkind.core.specs import ALL_MEMBERS, classify_name

    if args.every_ensemble:
        return None
    return [classify_name(ALL_MEMBERS if len(args.bundle) > 1 else load(args.bundle[0]).name, args.tta)]
