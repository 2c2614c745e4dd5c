"""Bundle to ONNX files, each checked against PyTorch before it is kept."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import onnx
import torch

from reelkind.core import specs
from reelkind.core.bundle import ONNX_FOLDER, Bundle
from reelkind.core.files import checksums
from reelkind.core.files.whole_files import write_whole
from reelkind.core.specs import VIEWS, Graph
from reelkind.models.head import Backbone

from .graphs.canonical import read_model, with_metadata
from .graphs.checkpoint import load_modules
from .graphs.graphs import build_preprocess, build_temporal_attention, build_temporal_views
from .graphs.half import CastRecord, to_half
from .graphs.modules import build_backbone_graph, build_head_graph
from .graphs.shares import shares
from .parity.half_check import HalfReport, search
from .parity.verify import verify, verify_integers
from .pipelines.steps import Stage
from .pipelines.torch_pipeline import (
    average_stage,
    preprocess_stage,
    temporal_attention_stage,
    temporal_views_stage,
    torch_stage,
)
from .repository.graph_files import files_beside, find_graph_file, metadata_entries
from .repository.members import average_file
from .stored_weights import pointing_at, stored_tensors, with_integer_products, with_integers

_SCALING_LEVELS = 1  # of 255: enlarging, ONNX Runtime rounds some pixels otherwise than Pillow

logger = logging.getLogger(__name__)


Checked = tuple[Graph, str, bytes, float]
"""A graph, the name of its file, the file, and how far it is from what it was made from."""


@dataclass(frozen=True)
class GraphFile:
    """One written graph: where it is, and how far it is from what it was made from (relative, see ``verify``)."""

    graph: Graph
    path: Path
    max_error: float


def export_bundle(bundle: Bundle, folder: str | os.PathLike[str] | None = None) -> list[GraphFile]:
    """Write the graphs of one member: preprocess for every set of views, backbone, head, average, temporal views.

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
    size, temporal = bundle.backbone.frame_size_px, specs.head_graph(bundle)
    checked = [
        *(
            _check(
                specs.preprocess_graph(size, views),
                build_preprocess(size, views),
                preprocess_stage(size, views),
                [bundle],
            )
            for views in VIEWS
        ),
        *_check_backbone(bundle, backbone),
        _check(specs.temporal_views_graph(), build_temporal_views(), temporal_views_stage(), [bundle]),
        _check(
            temporal,
            build_head_graph(bundle, head),
            torch_stage(head, 2),
            [bundle],
            partial(torch_stage, head, 2, torch.float64),
        ),
        _check(specs.temporal_attention_graph(), build_temporal_attention(), temporal_attention_stage(), [bundle]),
        _check_average([bundle]),
    ]
    target = Path(folder or bundle.path(ONNX_FOLDER))
    for path in files_beside(specs.backbone_graph(bundle), {bundle.name: bundle}):
        if path.parent.resolve() != target.resolve():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.name)
    return [_write(*result, target) for result in checked]


def export_average(
    bundles: Sequence[Bundle],
    folder: str | os.PathLike[str] | None = None,
    weights: Sequence[float] | None = None,
) -> GraphFile:
    """Write the graph that joins several members; by default into the ``onnx`` folder of the first by name.

    Args:
        bundles: the members.
        folder: where to.
        weights: share of each bundle; equal ones by default.

    Raises:
        ExportError: if the weights do not fit the members.
    """
    first = min(bundles, key=lambda bundle: bundle.name)
    return _write(*_check_average(bundles, weights), folder or first.path(ONNX_FOLDER))


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
        write_whole(file.path, data)
        checksums.record(file.path)
    return [file for file, _ in files]


def _check_backbone(bundle: Bundle, backbone: Backbone) -> list[Checked]:
    """The FP32 graph, and where integers are stored, the int8 graph too, both pointing at the bundle's files."""
    graph, model = specs.backbone_graph(bundle), build_backbone_graph(bundle, backbone)
    reference, exact = torch_stage(backbone, 3), partial(torch_stage, backbone, 3, torch.float64)
    if bundle.backbone.storage != specs.INT8:
        return [_check(graph, model, reference, [bundle], exact)]
    tensors, entries = stored_tensors(bundle), metadata_entries(graph, {bundle.name: bundle})
    model = with_integers(model, tensors)
    *_, error = _check(graph, model, reference, [bundle], exact)
    integers = with_integer_products(model)
    onnx.checker.check_model(integers, full_check=True)
    integer_error = verify_integers(graph, integers.SerializeToString(), reference, bundle.backbone.frame_size_px)
    return [
        (graph, graph.file, with_metadata(pointing_at(model, tensors), entries), error),
        (
            graph,
            graph.file_for(specs.INT8),
            with_metadata(pointing_at(integers, tensors), entries | {"precision": specs.INT8}),
            integer_error,
        ),
    ]


def _check(
    graph: Graph,
    model: onnx.ModelProto,
    reference: Stage,
    bundles: Sequence[Bundle],
    exact: Callable[[], Stage] | None = None,
) -> Checked:
    file = with_metadata(model, metadata_entries(graph, {bundle.name: bundle for bundle in bundles}))
    levels = _SCALING_LEVELS if graph.kind == "preprocess" else 0
    error = verify(graph, file, reference, bundles[0].backbone.frame_size_px, exact=exact, levels=levels)
    return graph, graph.file, file, error


def _check_average(bundles: Sequence[Bundle], weights: Sequence[float] | None = None) -> Checked:
    graph, file = specs.average_graph(bundles), average_file(bundles, weights)
    reference = average_stage(bundles, shares(weights, len(bundles)))
    return graph, graph.file, file, verify(graph, file, reference, bundles[0].backbone.frame_size_px)


def _write(graph: Graph, name: str, file: bytes, max_error: float, folder: str | os.PathLike[str]) -> GraphFile:
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, file)
    checksums.record(path)
    logger.info("wrote %s: %d bytes, differs by %.1e from PyTorch", path, len(file), max_error)
    return GraphFile(graph, path, max_error)
