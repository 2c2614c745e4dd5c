"""The exported graphs chained in this process by ONNX Runtime: what a server computes, without a server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from reelkind.core import bundle as bundles_on_disk
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.ensembles import classify_ensemble
from reelkind.core.specs import Graph

from ..graphs.canonical import read_model
from ..repository.graph_files import find_graph_file
from ..repository.members import joint_average
from .onnx_runtime import onnxruntime
from .steps import Stage, Tensors, run_steps

_ERRORS_ONLY = 3


class OnnxPipeline:
    """An ensemble of ONNX graphs on the CPU: uint8 frames [B, T, H, W, 3] in, a dict of NumPy arrays out.

    Args:
        folders: a bundle's folder, or several: the members of one ensemble.
        num_threads: CPU threads of a backbone; 0 means all cores.
        views: key of ``core.specs.VIEWS``.
        temporal: whether heads see the features in all orders of ``core.specs.TEMPORAL_VIEWS``.
        precision: one of ``core.specs.PRECISIONS``; which files of backbones and heads are run.
        prepare: changes each backbone's and head's graph before it is run, e.g. ``half_emulation.with_rounding``.
        replaced: graph name -> what computes it instead of ONNX Runtime, e.g. an engine.

    Attributes:
        ensemble: the wiring.
        members: the bundles.

    Raises:
        BundleError: if a folder holds no bundle.
        ExportError: if a graph is missing or was made from other weights.
    """

    def __init__(
        self,
        folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        num_threads: int = 0,
        *,
        views: str = "single",
        temporal: bool = False,
        precision: str = "fp32",
        prepare: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None,
        replaced: Mapping[str, Stage] | None = None,
    ) -> None:
        several = [folders] if isinstance(folders, (str, os.PathLike)) else folders
        self.members: list[Bundle] = [bundles_on_disk.load(folder) for folder in several]
        self.ensemble = classify_ensemble(self.members, views=views, temporal=temporal)
        self._precision, self._prepare = precision, prepare
        graphs = [step.graph for step in self.ensemble.steps if step.graph.name not in (replaced or {})]
        files = {graph: self.model(graph).SerializeToString() for graph in graphs if prepare and graph.is_network}
        files |= {graph: self._file(graph) for graph in graphs if graph not in files}
        self.stages = onnx_stages(files, num_threads, precision) | dict(replaced or {})

    def __call__(self, frames: np.ndarray) -> Tensors:
        """Every tensor of the ensemble: ``probabilities`` [B, K], ``attention`` [B, T], ``embedding`` [B, E], ..."""
        return run_steps(self.ensemble, self.stages, frames)

    def model(self, graph: Graph) -> onnx.ModelProto:
        """The graph of a stage, as it is run."""
        model = read_model(self._file(graph))
        return self._prepare(model) if self._prepare and graph.is_network else model

    def _file(self, graph: Graph) -> Path | bytes:
        by_name = {bundle.name: bundle for bundle in self.members}
        if len(graph.members) > 1:
            return joint_average(graph, by_name)
        return find_graph_file(graph, by_name, self._precision)


def onnx_stages(files: Mapping[Graph, Path | bytes], num_threads: int = 0, precision: str = "fp32") -> dict[str, Stage]:
    """Graphs as they are served on a CPU: backbones a few frames at a time on all threads, the rest on one.

    Args:
        files: graph -> its file, or the bytes of one.
        num_threads: CPU threads of a backbone; 0 means all cores.
        precision: how backbones compute, which decides how many frames they see at a time.
    """
    frames_per_run = specs.cpu_frames_per_run(precision)
    return {
        graph.name: _frame_wise(file, num_threads or len(os.sched_getaffinity(0)), frames_per_run)
        if graph.kind == "backbone"
        else onnx_stage(file, num_threads=1)
        for graph, file in files.items()
    }


def onnx_stage(graph: Path | bytes, num_threads: int = 0) -> Stage:
    """A file, or the bytes of one, as a stage: inputs in the graph's order to outputs in the graph's order."""
    return partial(_run, onnx_session(graph, num_threads))


def onnx_session(graph: Path | bytes, num_threads: int = 0, *, optimised: bool = True) -> onnxruntime.InferenceSession:
    """A file, or the bytes of one, as a session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = _ERRORS_ONLY
    # As serving/runner/runner.py sets its sessions up: idle threads do not spin, and clips come in many lengths.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = graph if isinstance(graph, bytes) else os.fspath(graph)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _frame_wise(graph: Path | bytes, num_threads: int, frames_per_run: int) -> Stage:
    """A backbone over [B, V, T, ...] as serving/runner/runner.py executes it: a few frames a run, a run a thread."""
    stage = onnx_stage(graph, num_threads=1)
    threads = ThreadPoolExecutor(num_threads)

    def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        (views,) = inputs
        if frames_per_run == 1:  # videos and views go by themselves, too
            single = views.reshape(-1, 1, 1, 1, *views.shape[3:])
            outputs = zip(*threads.map(stage, ([frame] for frame in single)), strict=True)
            return [np.concatenate(parts).reshape(*views.shape[:3], -1) for parts in outputs]
        _, num_views, num_frames = views.shape[:3]
        step = max(1, min(frames_per_run // num_views, -(-num_frames // num_threads)))
        parts = [[views[:, :, start : start + step]] for start in range(0, num_frames, step)]
        return [np.concatenate(outputs, axis=2) for outputs in zip(*threads.map(stage, parts), strict=True)]

    return run


def _run(session: onnxruntime.InferenceSession, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    names = [port.name for port in session.get_inputs()]
    outputs: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return outputs
