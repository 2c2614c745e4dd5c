"""Which weights a graph was made from: written into the file by the exporter, found again without reading ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from reelkind.core.bundle import ONNX_FOLDER, Bundle, weights_hash
from reelkind.core.specs import Graph

from .errors import ExportError

REPRODUCE = "reelkind export onnx"


def origin(graph: Graph, bundles: Mapping[str, Bundle]) -> str:
    """Hash of everything of its members a graph holds; empty for a graph that belongs to no member.

    Args:
        graph: one of ``core.specs``.
        bundles: at least the graph's members, by name.
    """
    if not graph.members:
        return ""
    parts = [weights_hash(bundles[name]) for name in graph.members]
    if graph.kind == "average":
        parts += [f"{name}={bundles[name].temperature!r}" for name in graph.members]
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def find_graph_file(graph: Graph, bundles: Mapping[str, Bundle], precision: str = "fp32") -> Path:
    """The file of a graph in the folder of one of the bundles, made from the weights that lie beside it.

    Args:
        graph: one of ``core.specs``.
        bundles: at least the graph's members, by name.
        precision: one of ``core.specs.PRECISIONS``.

    Raises:
        ExportError: if there is none, or it was made from other weights or another temperature.
    """
    owners = [bundles[name] for name in graph.members] or list(bundles.values())
    candidates = [bundle.path(ONNX_FOLDER, graph.file_for(precision)) for bundle in owners]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    option = "" if precision == "fp32" else f"--precision {precision} "
    again = f"run: {REPRODUCE} {option}" + " ".join(f"--bundle {bundle.folder}" for bundle in owners)
    if path is None:
        raise ExportError(f"{candidates[0].name} for model {graph.name!r} is not in {candidates[0].parent}; {again}")
    if origin(graph, bundles).encode() not in path.read_bytes():
        raise ExportError(f"{path} was not made from the weights and temperature that lie beside it; {again}")
    return path
