"""Which weights a graph was made from: written into the file by the exporter, found again without reading ONNX."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from reelkind.core import tensors
from reelkind.core.bundle import ONNX_FOLDER, Bundle, weights_hash
from reelkind.core.files.checksums import SUMS_NAME, is_as_recorded
from reelkind.core.specs import INT8, TEMPORAL_VIEWS, VIEWS, Graph
from reelkind.core.tensors import CONTRACT_VERSION

from ..errors import ExportError

REPRODUCE = "reelkind export onnx"


def origin(graph: Graph, bundles: Mapping[str, Bundle]) -> str:
    """Hash of everything of its members a graph holds; the views of one that belongs to no member, if it makes any.

    Args:
        graph: one of ``core.specs``.
        bundles: at least the graph's members, by name.
    """
    if not graph.members:
        return _views_made(graph)
    parts = [weights_hash(bundles[name]) for name in graph.members]
    if graph.kind == "average":
        parts += [f"{name}={bundles[name].temperature!r}" for name in graph.members]
    if tensors.SUBCATEGORIES in graph.outputs:
        parts += [_subcategories(bundles[name]) for name in graph.members]
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def metadata_entries(graph: Graph, bundles: Mapping[str, Bundle]) -> dict[str, str]:
    """What a graph's file says of itself; arguments as those of ``origin``."""
    entries = {"contract_version": CONTRACT_VERSION, "kind": graph.kind}
    if made_from := origin(graph, bundles):
        entries["origin"] = made_from
    if graph.members:
        entries["members"] = ",".join(graph.members)
        entries["weights"] = "trained" if all(bundles[name].trained for name in graph.members) else "untrained"
    return entries


def graph_candidates(graph: Graph, bundles: Mapping[str, Bundle], precision: str = "fp32") -> list[Path]:
    """Where the file of a graph may lie: in the folder of any of its members; arguments as ``find_graph_file``."""
    return [bundle.path(ONNX_FOLDER, graph.file_for(precision)) for bundle in _owners(graph, bundles)]


def find_graph_file(graph: Graph, bundles: Mapping[str, Bundle], precision: str = "fp32") -> Path:
    """The file of a graph in the folder of one of the bundles, made from the weights that lie beside it.

    Args:
        graph: one of ``core.specs``.
        bundles: at least the graph's members, by name.
        precision: one of ``core.specs.PRECISIONS``, or ``INT8``, which is FP32 where no integers are stored.

    Raises:
        ExportError: if there is none, or it was made from other weights, another temperature or other subcategories, or
            lacks an output that this release serves, or is not what the exporter wrote.
    """
    if precision == INT8 and any(bundles[name].backbone.storage != INT8 for name in graph.members):
        precision = "fp32"
    candidates = graph_candidates(graph, bundles, precision)
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    option = "" if precision in ("fp32", INT8) else f"--precision {precision} "
    again = f"run: {REPRODUCE} {option}" + " ".join(f"--bundle {bundle.folder}" for bundle in _owners(graph, bundles))
    if path is None:
        raise ExportError(f"{candidates[0].name} for model {graph.name!r} is not in {candidates[0].parent}; {again}")
    content = path.read_bytes()
    if origin(graph, bundles).encode() not in content:
        what = (
            "from the weights and temperature that lie beside it" if graph.members else "for the views of this release"
        )
        raise ExportError(f"{path} was not made {what}; {again}")
    lacking = [spec.name for spec in graph.outputs if spec.name.encode() not in content]
    if lacking:
        raise ExportError(f"{path} is of an earlier release, which did not give {', '.join(lacking)}; {again}")
    if not is_as_recorded(path):
        raise ExportError(f"{path} is not what was exported, by the {SUMS_NAME} beside it: it is damaged; {again}")
    return path


def files_beside(graph: Graph, bundles: Mapping[str, Bundle]) -> list[Path]:
    """Files of weights that a graph reads beside its own; they must lie in the same folder.

    Args:
        graph: one of ``core.specs``.
        bundles: at least the graph's members, by name.
    """
    if graph.kind != "backbone":
        return []
    (bundle,) = (bundles[name] for name in graph.members)
    return [bundle.path(name) for name in bundle.backbone.weights if name.startswith(f"{ONNX_FOLDER}/")]


def _owners(graph: Graph, bundles: Mapping[str, Bundle]) -> list[Bundle]:
    return [bundles[name] for name in graph.members] or list(bundles.values())


def _subcategories(bundle: Bundle) -> str:
    return f"{bundle.name}/{bundle.subcategory_temperature!r}: {', '.join(bundle.subcategories_learnt)}"


def _views_made(graph: Graph) -> str:
    if graph.kind.startswith("temporal"):
        return f"temporal views: {', '.join(TEMPORAL_VIEWS)}"
    made = next((views for name, views in VIEWS.items() if name != "single" and graph.name.endswith(f"_{name}")), ())
    return f"views: {', '.join(made)}" if made else ""
