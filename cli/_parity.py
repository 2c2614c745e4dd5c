"""The parity ladder of ``reelkind export parity``: which rungs there are, and where each looks when it fails."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle
    from reelkind.core.specs import Tolerance
    from reelkind.export.divergence import Layers
    from reelkind.export.parity import Rung, RungReport
    from reelkind.export.reference import OnnxPipeline
    from reelkind.export.steps import Stage, Tensors
    from reelkind.export.torch_pipeline import TorchPipeline


def climb_ladder(args: argparse.Namespace, bundles: Sequence[Bundle]) -> list[RungReport]:
    """Build the rungs that the arguments name and climb them."""
    from reelkind.export.clips import default_clips, video_clips
    from reelkind.export.parity import climb
    from reelkind.export.torch_pipeline import TorchPipeline

    size = bundles[0].backbone.frame_size_px
    clips = video_clips(args.clips, size, args.frames) if args.clips else default_clips(size, args.frames)
    reference = TorchPipeline(bundles, views=args.views)
    with _server(args) as url:
        return climb(reference, _rungs(args, bundles, reference, url), clips)


def _rungs(
    args: argparse.Namespace, bundles: Sequence[Bundle], reference: TorchPipeline, url: str | None
) -> list[Rung]:
    from reelkind.core.specs import FP16_TOLERANCE, FP32_TOLERANCE
    from reelkind.export.divergence import onnx_layers
    from reelkind.export.half_emulation import with_rounding
    from reelkind.export.parity import Rung
    from reelkind.export.reference import OnnxPipeline

    single = OnnxPipeline(args.bundle, views=args.views)
    look = partial(_locator, reference, single)
    rungs = [Rung("ONNX FP32", single, FP32_TOLERANCE, look(single, FP32_TOLERANCE, onnx_layers(single.model), True))]
    if args.fp16:
        half = OnnxPipeline(args.bundle, views=args.views, precision="fp16")
        stored = OnnxPipeline(args.bundle, views=args.views, precision="fp16", prepare=with_rounding)
        layers = onnx_layers(stored.model)
        rungs.append(Rung("ONNX FP16", half, FP16_TOLERANCE, look(half, FP16_TOLERANCE, layers)))
        rungs.append(Rung("FP16 as stored", stored, FP16_TOLERANCE, look(stored, FP16_TOLERANCE, layers)))
    if args.engines:
        stages = _engine_stages(args.engines, bundles)
        engines = OnnxPipeline(args.bundle, views=args.views, replaced=stages)
        rungs.append(Rung("engine", engines, FP16_TOLERANCE, look(engines, FP16_TOLERANCE)))
    if url:
        rungs += _server_rungs(args, bundles, url, look)
    return rungs


def _server_rungs(
    args: argparse.Namespace, bundles: Sequence[Bundle], url: str, look: Callable[..., Callable[[np.ndarray], str]]
) -> list[Rung]:
    from reelkind.client import Client
    from reelkind.core.specs import DEFAULT_ENSEMBLE, FP16_TOLERANCE, FP32_TOLERANCE
    from reelkind.export.parity import Rung
    from reelkind.export.triton_rung import TritonPipeline

    name = DEFAULT_ENSEMBLE + ("_ensemble" if len(bundles) > 1 else "")
    name += "" if args.views == "single" else f"_{args.views}"
    tolerance: Tolerance = FP16_TOLERANCE if args.server_precision == "fp16" else FP32_TOLERANCE
    triton, client = TritonPipeline(url, name, bundles), Client(url, ensemble=name)

    def trace(frames: np.ndarray) -> Tensors:
        from reelkind.core.specs import classify_ensemble

        return triton.trace(classify_ensemble(bundles, name, args.views), frames)

    def ask(frames: np.ndarray) -> Tensors:
        prediction = client.classify_frames(frames[0])
        assert not isinstance(prediction, Sequence)
        return {
            "probabilities": np.array([list(prediction.scores.values())], np.float32),
            "attention": prediction.attention[None],
        }

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
    from reelkind.export.divergence import locate, onnx_layers

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
    from reelkind.export.engine_files import find_engine
    from reelkind.export.engines import find_device
    from reelkind.serving.tensorrt_runtime import Engine, as_stage

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
    from ._embedded import embedded_server

    with embedded_server(args.bundle) as server:
        yield server.url
