"""Bundle to ONNX files, each checked against PyTorch before it is kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
import torch

from reelkind.core import specs
from reelkind.core.bundle import ONNX_FOLDER, Bundle
from reelkind.core.specs import VIEWS, Graph
from reelkind.core.tensors import CONTRACT_VERSION

from .canonical import read_model, with_metadata
from .checkpoint import load_modules
from .graphs import build_average, build_preprocess
from .half import CastRecord, to_half
from .half_check import HalfReport, search
from .modules import build_backbone_graph, build_head_graph
from .origin import find_graph_file, origin
from .steps import Stage
from .torch_pipeline import average_stage, preprocess_stage, torch_stage
from .verify import verify

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphFile:
    """One written graph: where it is, and how far it is from what it was made from (relative, see ``verify``)."""

    graph: Graph
    path: Path
    max_error: float


def export_bundle(bundle: Bundle, folder: str | os.PathLike[str] | None = None) -> list[GraphFile]:
    """Write the graphs of one member: preprocess for every set of views, backbone, head, average.

    Args:
        bundle: a bundle on disk.
        folder: where to; the bundle's own ``onnx`` folder by default.

    Returns:
        The files, in the order a clip passes them.

    Raises:
        ExportError: if the weights are missing or do not fit.
        ParityError: if a graph does not compute what PyTorch computes; nothing of the bundle is written then.
    """
    backbone, head = load_modules(bundle)
    size = bundle.backbone.frame_size_px
    checked = [
        _check(
            specs.preprocess_graph(size, views), build_preprocess(size, views), preprocess_stage(size, views), [bundle]
        )
        for views in VIEWS
    ]
    for graph, model, module, num_folded in (
        (specs.backbone_graph(bundle), build_backbone_graph(bundle, backbone), backbone, 3),
        (specs.head_graph(bundle), build_head_graph(bundle, head), head, 2),
    ):
        exact = partial(torch_stage, module, num_folded, torch.float64)
        checked.append(_check(graph, model, torch_stage(module, num_folded), [bundle], exact))
    checked.append(_check(specs.average_graph([bundle]), build_average([bundle]), average_stage([bundle]), [bundle]))
    return [_write(graph, file, error, folder or bundle.path(ONNX_FOLDER)) for graph, file, error in checked]


def export_average(bundles: Sequence[Bundle], folder: str | os.PathLike[str] | None = None) -> GraphFile:
    """Write the graph that joins several members; by default into the first member's ``onnx`` folder."""
    checked = _check(specs.average_graph(bundles), build_average(bundles), average_stage(bundles), bundles)
    return _write(*checked, folder or bundles[0].path(ONNX_FOLDER))


@dataclass(frozen=True)
class HalfGraphFile:
    """One written FP16 graph: where it is, every cast in it, and what the search for overflow found."""

    graph: Graph
    path: Path
    casts: tuple[CastRecord, ...]
    computed: dict[str, dict[str, int]]
    report: HalfReport


def export_half(bundle: Bundle, folder: str | os.PathLike[str] | None = None) -> list[HalfGraphFile]:
    """Write the FP16 graphs of one member beside its FP32 graphs, which they are made from: backbone, head.

    Args:
        bundle: a bundle on disk with exported graphs.
        folder: where to; the bundle's own ``onnx`` folder by default. Files lie in its subfolder ``fp16``.

    Raises:
        ExportError: if an FP32 graph is missing or stale, or a weight does not fit FP16.
        ParityError: if a number leaves FP16's range on extreme inputs; nothing of the bundle is written then.
    """
    files = []
    for graph in (specs.backbone_graph(bundle), specs.head_graph(bundle)):
        single = read_model(find_graph_file(graph, {bundle.name: bundle}))
        half = to_half(graph, single)
        report = search(graph, single, half.model)
        entries = {entry.key: entry.value for entry in single.metadata_props} | {"precision": "fp16"}
        path = Path(folder or bundle.path(ONNX_FOLDER), graph.file_for("fp16"))
        files.append(
            (HalfGraphFile(graph, path, half.casts, half.computed, report), with_metadata(half.model, entries))
        )
    for file, data in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(data)
    return [file for file, _ in files]


def _check(
    graph: Graph,
    model: onnx.ModelProto,
    reference: Stage,
    bundles: Sequence[Bundle],
    exact: Callable[[], Stage] | None = None,
) -> tuple[Graph, bytes, float]:
    entries = {"contract_version": CONTRACT_VERSION, "kind": graph.kind}
    if graph.members:
        entries["members"] = ",".join(graph.members)
        entries["origin"] = origin(graph, {bundle.name: bundle for bundle in bundles})
        entries["weights"] = "trained" if all(bundle.trained for bundle in bundles) else "untrained"
    file = with_metadata(model, entries)
    return graph, file, verify(graph, file, reference, bundles[0].backbone.frame_size_px, exact=exact)


def _write(graph: Graph, file: bytes, max_error: float, folder: str | os.PathLike[str]) -> GraphFile:
    path = Path(folder) / graph.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file)
    logger.info("wrote %s: %d bytes, differs by %.1e from PyTorch", path, len(file), max_error)
    return GraphFile(graph, path, max_error)
