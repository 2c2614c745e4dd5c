"""Several members as one: their shares, and the graph that joins them, found in a bundle or made here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reelkind.core.bundle import Bundle
from reelkind.core.specs import Graph, average_graph

from ..errors import ExportError
from ..graphs.shares import shares
from .graph_files import REPRODUCE, find_graph_file, graph_candidates, metadata_entries

WEIGHTS_KEY = "member_weights"  # in the metadata of a joint average graph: shares, in the order of its members


def member_weights(bundles: Sequence[Bundle]) -> list[float]:
    """Shares of members in their joint answer, in the order of their names, read from the graph that joins them.

    Raises:
        ExportError: if the graph is there, but was made from other weights.
    """
    graph, members = average_graph(bundles), {bundle.name: bundle for bundle in bundles}
    if len(members) == 1 or not _is_exported(graph, members):
        return shares(None, len(members))
    file = find_graph_file(graph, members).read_bytes()
    # A map entry of the file: the key, then field 2 with its length in a byte or two. ONNX need not be installed.
    found = re.search(WEIGHTS_KEY.encode() + rb"\x12.{1,2}?([0-9.,e-]+)", file, re.DOTALL)
    return shares([float(share) for share in found[1].split(b",")] if found else None, len(members))


def joint_average(graph: Graph, bundles: Mapping[str, Bundle], weights: Sequence[float] | None = None) -> Path | bytes:
    """The graph that joins several members: the exported file, or the bytes of one made here.

    Args:
        graph: ``core.specs.average_graph`` of the members.
        bundles: at least the members, by name.
        weights: of the members in the graph's order, if it has to be made here; equal ones by default.

    Raises:
        ExportError: if the file was made from other weights, or there is none and ``onnx`` is not installed.
    """
    if _is_exported(graph, bundles):
        return find_graph_file(graph, bundles)
    try:
        return average_file([bundles[name] for name in graph.members], weights)
    except ImportError as error:
        folders = " ".join(f"--bundle {bundles[name].folder}" for name in graph.members)
        raise ExportError(
            f"{graph.file} for model {graph.name!r} is in none of its members' folders, and making it needs the "
            f"package {error.name}; where that is installed run: {REPRODUCE} {folders}"
        ) from error


def average_file(bundles: Sequence[Bundle], weights: Sequence[float] | None = None) -> bytes:
    """The graph that joins members, as a file.

    Args:
        bundles: one or more, in any order.
        weights: of each bundle; equal ones by default.

    Raises:
        ExportError: if the weights do not fit the members.
        ImportError: if ``onnx`` is not installed.
    """
    from ..graphs.canonical import with_metadata
    from ..graphs.graphs import build_average

    share_of = dict(zip((bundle.name for bundle in bundles), shares(weights, len(bundles)), strict=True))
    graph, members = average_graph(bundles), {bundle.name: bundle for bundle in bundles}
    ordered = [share_of[name] for name in graph.members]
    entries = metadata_entries(graph, members)
    if len(bundles) > 1:
        entries[WEIGHTS_KEY] = ",".join(map(repr, ordered))
    return with_metadata(build_average([members[name] for name in graph.members], ordered), entries)


def _is_exported(graph: Graph, bundles: Mapping[str, Bundle]) -> bool:
    return any(path.is_file() for path in graph_candidates(graph, bundles))
