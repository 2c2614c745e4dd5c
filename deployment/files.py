"""A bundle to the files of a new version of its models, beside those that a server has loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.export.errors import ExportError
from reelkind.export.repository.engine_files import find_engine
from reelkind.export.repository.graph_files import files_beside, find_graph_file
from reelkind.export.repository.members import average_file

GRAPH_NAME, ENGINE_NAME = "model.onnx", "model.plan"


def version_files(
    repository: Path,
    configs: Mapping[str, Any],
    bundle: Bundle,
    others: Mapping[str, Bundle],
    engines: Path | None = None,
) -> dict[str, dict[str, Path | bytes]]:
    """What differs between the served version of a member's models and the one to come.

    Args:
        repository: where the models lie; it tells graphs from engines.
        configs: configurations of the ensembles that contain the member.
        bundle: the member's new one, with exported graphs.
        others: served bundles of the members that it is averaged with, by name.
        engines: folder of engines built from the bundle's graphs, where the served ones are engines.

    Returns:
        Model -> file name -> where its content lies, or the content.

    Raises:
        ExportError: if a graph or an engine is missing or stale.
    """
    known, precision = {**others, bundle.name: bundle}, served_precision(configs, bundle.name)
    if precision == specs.INT8 and bundle.backbone.storage != specs.INT8:
        raise ExportError(
            f"{bundle.name} is served with integer products, the bundle in {bundle.folder} is not stored as int8: stop "
            "the server and start it with this bundle"
        )
    files: dict[str, dict[str, Path | bytes]] = {}
    for graph in (specs.backbone_graph(bundle), specs.head_graph(bundle)):
        if not any((repository / graph.name).glob(f"*/{ENGINE_NAME}")):
            beside = {path.name: path for path in files_beside(graph, known)}
            files[graph.name] = {GRAPH_NAME: find_graph_file(graph, known, precision), **beside}
        elif engines is None:
            raise ExportError(
                f"{graph.name} is served as a TensorRT engine: build the new one on this card "
                f"(reelkind export engine --bundle {bundle.folder} --out DIR) and say --engines DIR"
            )
        else:
            files[graph.name] = {ENGINE_NAME: find_engine(engines, graph, known)}
    for config in configs.values():
        members = config.parameters["members"].string_value.split(",")
        if config.parameters["kind"].string_value == "features":
            continue
        shares = [float(share) for share in config.parameters["member_weights"].string_value.split(",")]
        averaged = [known[name] for name in members]
        graph = specs.average_graph(averaged)
        if graph.name not in files:
            files[graph.name] = {GRAPH_NAME: _average(graph, averaged, shares)}
    return files


def served_precision(configs: Mapping[str, Any], member: str) -> str:
    """How a member's backbone computes on the server: ``fp32`` unless its ensembles say otherwise."""
    for config in configs.values():
        told = {key: value.string_value.split(",") for key, value in config.parameters.items()}
        if member in told["members"] and "precisions" in told:
            return str(told["precisions"][told["members"].index(member)])
    return "fp32"


def _average(graph: specs.Graph, bundles: Sequence[Bundle], shares: Sequence[float]) -> Path | bytes:
    """The graph that joins members in the served shares: the bundle's own for one, made here for several."""
    if len(bundles) == 1:
        return find_graph_file(graph, {bundle.name: bundle for bundle in bundles})
    try:
        return average_file(bundles, shares)
    except ImportError as error:
        raise ExportError(
            f"{graph.name} has to be made anew, for which the package {error.name} is missing: "
            "pip install 'reelkind[export]'"
        ) from error
