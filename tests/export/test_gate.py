"""The gate: TensorRT-RTX accepts what we export for SM80, and refuses what is broken."""

import argparse
import sys
from dataclasses import replace

import onnx
import pytest
from onnx import helper

from reelkind.cli.export import command as command
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.tensors import TensorSpec
from reelkind.export.errors import ExportError
from reelkind.export.graphs.half import to_half
from reelkind.export.tensorrt import networks
from reelkind.export.tensorrt.gate import judge


@pytest.fixture(scope="module")
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="the gate needs TensorRT-RTX: pip install 'reelkind[gate]'")


def single(bundle: Bundle, kind: str) -> onnx.ModelProto:
    return onnx.load(bundle.path("onnx", f"{kind}.onnx"))


@pytest.mark.usefixtures("rtx")
def test_every_shipped_graph_is_accepted_in_both_precisions(
    shipped: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["export", "gate", "--bundle", str(shipped.path())])
    assert args.run(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [f"{kind}_lite", precision] for kind in ("backbone", "head") for precision in ("fp32", "fp16")
    ]


@pytest.mark.usefixtures("rtx")
def test_mixed_types_are_refused(shipped: Bundle) -> None:
    graph = specs.head_graph(shipped)
    half = to_half(graph, single(shipped, "head")).model
    norm = next(node for node in half.graph.node if node.op_type == "LayerNormalization")
    cast = next(node for node in half.graph.node if node.output[0] == norm.input[0])
    assert cast.op_type == "Cast"
    norm.input[0] = cast.input[0]  # FP16 into an island without a cast
    verdict = judge(graph, half, "fp16")
    assert verdict.refusal.startswith("head_lite: TensorRT")
    assert verdict.engine_bytes == 0


@pytest.mark.usefixtures("rtx")
def test_an_operator_tensorrt_lacks_is_refused_by_name(shipped: Bundle) -> None:
    graph, model = specs.head_graph(shipped), single(shipped, "head")
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.CopyFrom(helper.make_node("Det", [*node.input], [*node.output]))
    assert "Det" in judge(graph, model, "fp32").refusal


@pytest.mark.usefixtures("rtx")
def test_a_graph_with_another_border_than_the_contract_is_refused(shipped: Bundle) -> None:
    graph = specs.head_graph(shipped)
    (features,) = graph.inputs
    other = replace(graph, inputs=(TensorSpec("features", features.dtype, (*features.shape[:-1], 7)),))
    assert "TensorRT reads the inputs as" in judge(other, single(shipped, "head"), "fp32").refusal


@pytest.mark.usefixtures("rtx")
def test_a_profile_the_graph_cannot_take_is_refused(shipped: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = specs.PROFILES["head"] | {"T": specs.Range(16, 1, 300)}  # the best is below the least
    monkeypatch.setitem(specs.PROFILES, "head", fixed)
    assert judge(specs.head_graph(shipped), single(shipped, "head"), "fp32").refusal


def test_without_tensorrt_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, networks.TENSORRT_RTX, None)  # as if it were not installed
    with pytest.raises(ExportError, match=r"tensorrt_rtx cannot be loaded .* pip install 'reelkind\[gate\]'"):
        networks.load_library(networks.TENSORRT_RTX)
