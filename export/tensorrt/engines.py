"""Graphs to TensorRT engines, built on the card that runs them and kept until something they depend on changes.

    <folder>/
        backbone_lite.plan        the engine
        backbone_lite.json        what it depends on: its key
        timing-<library>.cache    measured times, which make the next build quick

An engine belongs to one card or slice (tactics depend on its number of SMs and memory), so a folder does, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.cuda import CudaError, Device
from reelkind.core.files.checksums import sha256_of
from reelkind.core.files.whole_files import write_json, write_whole
from reelkind.core.specs import Graph

from ..errors import ExportError
from ..graphs.canonical import read_model
from ..repository.engine_files import CONTEXT_KEY, PLAN_KEY, EngineKey, engine_path, key_path, reason_to_build
from ..repository.graph_files import find_graph_file
from .networks import TENSORRT, Network, load_library

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineFile:
    """One engine on disk.

    Attributes:
        graph: its contract.
        path: the plan.
        reason: why it was built now; empty if it was there.
    """

    graph: Graph
    path: Path
    reason: str


@dataclass(frozen=True)
class Plan:
    """An engine to build: its graph, where the graph lies, and in which precision it computes."""

    graph: Graph
    source: Path
    precision: str

    @property
    def profile(self) -> dict[str, list[list[int]]]:
        """Input -> smallest, best and largest shape."""
        return {
            spec.name: [list(shape) for shape in specs.profile_shapes(self.graph, spec)] for spec in self.graph.inputs
        }

    def key(self, library: str, device: Device) -> EngineKey:
        """What the engine depends on when it is built here."""
        return EngineKey(
            graph=self.graph.name,
            precision=self.precision,
            onnx_sha256=sha256_of(self.source),
            profile=self.profile,
            library=library,
            gpu=device.name,
            compute_capability=device.compute_capability,
            num_sms=device.num_sms,
        )


def plan_engines(bundles: Iterable[Bundle], precision: str) -> list[Plan]:
    """The engines these members need; nothing is built.

    Raises:
        ExportError: if a graph of this precision is missing or stale.
    """
    return [
        Plan(graph, find_graph_file(graph, {bundle.name: bundle}, precision), precision)
        for bundle in bundles
        for graph in (specs.backbone_graph(bundle), specs.head_graph(bundle))
    ]


def find_device() -> Device:
    """The card to build on.

    Raises:
        ExportError: if there is none. Nothing of TensorRT is touched before: it crashes without a driver.
    """
    try:
        return Device()
    except CudaError as error:
        raise ExportError(
            f"{error}: an engine is built on the card that runs it (--dry-run shows here what would be built)"
        ) from error


def build_engines(
    plans: Iterable[Plan], folder: str | os.PathLike[str], device: Device, library_name: str = TENSORRT
) -> Iterator[EngineFile]:
    """Build what is not there yet, one after the other; each is complete on disk before it is named.

    Raises:
        ExportError: if TensorRT is not installed, or refuses a graph.
    """
    library = load_library(library_name)
    name = f"{library_name} {library.__version__}"
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    times = target / f"timing-{name.replace(' ', '-')}.cache"
    for plan in plans:
        path, key = engine_path(target, plan.graph), plan.key(name, device)
        reason = reason_to_build(path, key)
        if reason:
            logger.info("%s: %s", plan.graph.name, reason)
            network = Network(library, plan.graph, read_model(plan.source))
            engine, timing = network.build(timing_cache=times.read_bytes() if times.is_file() else b"")
            key_path(path).unlink(missing_ok=True)  # a plan without a key is built anew
            write_whole(path, engine)
            write_whole(times, timing)
            stored = asdict(key) | {CONTEXT_KEY: network.context_bytes(engine), PLAN_KEY: sha256_of(path)}
            write_json(key_path(path), stored)
        yield EngineFile(plan.graph, path, reason)
