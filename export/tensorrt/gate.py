"""Does TensorRT's parser and builder take our graphs? Asked of TensorRT-RTX, which needs neither GPU nor driver.

It proves that operators, types and profiles are accepted for a card that is not here. It proves no execution, no speed
and no memory, and its engines are not what production runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.specs import Graph

from ..errors import ExportError
from ..graphs.canonical import read_model
from ..graphs.half import to_half
from ..repository.graph_files import find_graph_file
from .networks import TENSORRT_RTX, Network, load_library

COMPUTE_CAPABILITY = "SM80"  # A100


@dataclass(frozen=True)
class Verdict:
    """What the gate said of one graph.

    Attributes:
        graph: model name.
        precision: one of ``core.specs.PRECISIONS``.
        refusal: TensorRT's reason; empty for a graph that is accepted.
        num_layers: layers of the parsed network.
        engine_bytes: size of the built engine.
        build_s: time of parsing and building.
    """

    graph: str
    precision: str
    refusal: str = ""
    num_layers: int = 0
    engine_bytes: int = 0
    build_s: float = 0.0


def judge(graph: Graph, model: onnx.ModelProto, precision: str) -> Verdict:
    """Parse and build one graph with its profile.

    Raises:
        ExportError: if TensorRT-RTX is not installed.
    """
    library, start = load_library(TENSORRT_RTX), time.perf_counter()
    try:
        network = Network(library, graph, model)
        engine, _ = network.build(compute_capability=COMPUTE_CAPABILITY)
    except ExportError as error:
        return Verdict(graph.name, precision, refusal=str(error))
    return Verdict(graph.name, precision, "", network.num_layers, len(engine), time.perf_counter() - start)


def judge_bundles(bundles: Sequence[Bundle]) -> Iterator[Verdict]:
    """Judge every graph that becomes an engine, as it is and converted to FP16.

    Raises:
        ExportError: if TensorRT-RTX is not installed, or a graph is missing, stale or cannot be converted.
    """
    for bundle in bundles:
        for graph in (specs.backbone_graph(bundle), specs.head_graph(bundle)):
            single = read_model(find_graph_file(graph, {bundle.name: bundle}))
            yield judge(graph, single, "fp32")
            yield judge(graph, to_half(graph, single).model, "fp16")
