"""Engines on disk: what each depends on, and whether it is still the right one. Neither ONNX nor TensorRT is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from reelkind.core.bundle import Bundle
from reelkind.core.files.checksums import sha256_of
from reelkind.core.specs import Graph

from ..errors import ExportError
from .graph_files import find_graph_file

CONTEXT_KEY = "context_bytes"  # beside the key: device memory of an engine's activations, as TensorRT reports it
PLAN_KEY = "plan_sha256"  # beside the key: of the engine's file


@dataclass(frozen=True)
class EngineKey:
    """Everything an engine depends on; an engine of another key is built anew.

    Attributes:
        graph: model name.
        precision: one of ``core.specs.PRECISIONS``.
        onnx_sha256: of the graph's file.
        profile: input -> smallest, best and largest shape.
        library: TensorRT's module and version.
        gpu: name of the card or slice.
        compute_capability: e.g. ``"8.0"``.
        num_sms: streaming multiprocessors.
    """

    graph: str
    precision: str
    onnx_sha256: str
    profile: Mapping[str, list[list[int]]]
    library: str
    gpu: str
    compute_capability: str
    num_sms: int

    def changes(self, other: Mapping[str, object]) -> list[str]:
        """In words, where a stored key differs from this one; empty if it does not."""
        return [
            f"{name} was {other.get(name)}, is {value}"
            for name, value in asdict(self).items()
            if other.get(name) != value
        ]


def engine_path(folder: str | os.PathLike[str], graph: Graph) -> Path:
    """Where the engine of a graph lies in a folder of engines."""
    return Path(folder, f"{graph.name}.plan")


def find_engine(folder: str | os.PathLike[str], graph: Graph, bundles: Mapping[str, Bundle]) -> Path:
    """An engine made of the graphs that lie in the bundles now.

    Raises:
        ExportError: if it is missing, was made of another graph, or is not what was built.
    """
    path = engine_path(folder, graph)
    stored = _stored_key(path)
    again = f"run: reelkind export engine --out {folder}"
    if not stored or not path.is_file():
        raise ExportError(f"{path.name} is not in {folder}; {again}")
    source = find_graph_file(graph, bundles, str(stored.get("precision")))
    if sha256_of(source) != stored.get("onnx_sha256"):
        raise ExportError(f"{path} was not made of {source}; {again}")
    if sha256_of(path) != stored.get(PLAN_KEY):
        raise ExportError(f"{path} is not what was built, by {key_path(path).name} beside it: it is damaged; {again}")
    return path


def reason_to_build(path: Path, key: EngineKey) -> str:
    """Why the engine has to be built; empty if the one on disk will do."""
    stored = _stored_key(path)
    if not stored or not path.is_file():
        return "not built yet"
    return "; ".join(key.changes(stored)) or ("" if sha256_of(path) == stored.get(PLAN_KEY) else "it is damaged")


def _stored_key(path: Path) -> dict[str, object]:
    try:
        stored = json.loads(key_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not whole
        return {}
    return stored if isinstance(stored, dict) else {}


def context_bytes(path: Path) -> int:
    """Device memory of an engine's activations, as TensorRT reported it when it was built; 0 if unknown."""
    stored = _stored_key(path).get(CONTEXT_KEY)
    return stored if isinstance(stored, int) else 0


def key_path(path: Path) -> Path:
    """Where the key of an engine lies."""
    return path.with_suffix(".json")
