"""FP16 graphs: strongly typed, islands where core.specs says, no number outside FP16's range."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reelkind.cli.main import main
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.files import checksums
from reelkind.core.specs import FP16_TOLERANCE
from reelkind.export.errors import ExportError, ParityError
from reelkind.export.graphs.constants import float_types, with_folded_norms, with_plain_weights
from reelkind.export.graphs.fp32_ops import FP32_OPS
from reelkind.export.graphs.half import HalfGraph, to_half
from reelkind.export.parity.half_check import search
from reelkind.export.parity.half_emulation import with_rounding
from reelkind.export.parity.ladder import Rung, climb
from reelkind.export.pipelines.clips import synthetic_clips, video_clips
from reelkind.export.pipelines.intermediates import runner
from reelkind.export.pipelines.reference import OnnxPipeline

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def single(bundle: Bundle, kind: str) -> onnx.ModelProto:
    return onnx.load(bundle.path("onnx", f"{kind}.onnx"))


def graph_of(bundle: Bundle, kind: str) -> specs.Graph:
    return specs.backbone_graph(bundle) if kind == "backbone" else specs.head_graph(bundle)


@pytest.fixture(scope="module", params=("backbone", "head"))
def converted(request: pytest.FixtureRequest, shipped: Bundle) -> tuple[specs.Graph, onnx.ModelProto, HalfGraph]:
    graph, model = graph_of(shipped, request.param), single(shipped, request.param)
    return graph, model, to_half(graph, model)


def test_types_agree_at_every_operator(converted: tuple[specs.Graph, onnx.ModelProto, HalfGraph]) -> None:
    _, _, half = converted
    types = float_types(half.model)  # strict shape inference refuses operators with mixed types
    for node in half.model.graph.node:
        kinds = {types[name] for name in (*node.input, *node.output) if name in types}
        assert len(kinds) <= 1 or node.op_type == "Cast", node


def test_what_crosses_the_border_is_unchanged(converted: tuple[specs.Graph, onnx.ModelProto, HalfGraph]) -> None:
    graph, model, half = converted
    assert list(half.model.graph.input) == list(model.graph.input)
    assert list(half.model.graph.output) == list(model.graph.output)
    assert [spec.name for spec in graph.outputs] == [value.name for value in half.model.graph.output]


def test_islands_are_single_and_products_half(shipped: Bundle) -> None:
    for kind in ("backbone", "head"):
        half = to_half(graph_of(shipped, kind), single(shipped, kind))
        for operator in set(FP32_OPS.operators) & half.computed.keys():
            assert half.computed[operator]["half"] == 0
    # q, k, v, output, projection; scores, mixture, pooling, and four columns a frame
    assert half.computed["MatMul"] == {"half": 5, "single": 4}
    assert half.computed["Gemm"] == {"half": 0, "single": 2}  # four columns, and those of the subcategories


def test_convolutions_are_half_and_have_taken_in_their_norms(shipped: Bundle) -> None:
    half = to_half(specs.backbone_graph(shipped), single(shipped, "backbone"))
    assert half.computed["Conv"]["single"] == 0
    assert "BatchNormalization" not in half.computed
    weights = {tensor.name: tensor for tensor in half.model.graph.initializer}
    for node in half.model.graph.node:
        if node.op_type == "Conv":
            assert {weights[name].data_type for name in node.input[1:]} == {HALF}


def test_every_cast_is_reported(converted: tuple[specs.Graph, onnx.ModelProto, HalfGraph]) -> None:
    _, _, half = converted
    types = float_types(half.model)
    found = [node for node in half.model.graph.node if node.op_type == "Cast" and node.input[0] in types]
    kinds = {"half": HALF, "single": SINGLE}
    assert sorted((cast.tensor, kinds[cast.to]) for cast in half.casts) == sorted(
        (node.input[0], helper.get_node_attr_value(node, "to")) for node in found
    )
    assert all(cast.read_by for cast in half.casts)


def test_no_weight_is_cast_when_the_graph_runs(converted: tuple[specs.Graph, onnx.ModelProto, HalfGraph]) -> None:
    _, model, half = converted
    for plain in (half.model, with_plain_weights(model)):
        weights = {tensor.name for tensor in plain.graph.initializer}
        assert not [node for node in plain.graph.node if node.op_type == "Cast" and node.input[0] in weights]


def test_folding_changes_nothing_but_rounding(shipped: Bundle) -> None:
    model = single(shipped, "backbone")
    array = np.random.default_rng(0).integers(0, 256, (1, 1, 2, 3, 224, 224), dtype=np.uint8)
    expected = runner(with_plain_weights(model))([array])["features"]
    given = runner(with_folded_norms(with_plain_weights(model)))([array])["features"]
    np.testing.assert_allclose(given, expected, atol=1e-4)


def test_emulation_rounds_every_result_as_half_hardware_stores_it() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64)).astype(np.float16)
    nodes = [helper.make_node("Cast", ["x"], ["a"], to=HALF)]
    nodes += [helper.make_node("MatMul", [before, "w"], [after]) for before, after in ("ab", "bc")]
    nodes.append(helper.make_node("Cast", ["c"], ["y"], to=SINGLE))
    border = [helper.make_tensor_value_info(name, SINGLE, ["B", 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "two", border[:1], border[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = rng.standard_normal((5, 64)).astype(np.float32)

    def stored(array: np.ndarray) -> np.ndarray:
        return array.astype(np.float16).astype(np.float32)

    wide = stored(weight)
    expected = stored(stored(stored(x) @ wide) @ wide)
    np.testing.assert_allclose(runner(with_rounding(model))([x])["y"], expected, rtol=2e-3, atol=0.1)
    given = runner(with_rounding(model))([x])["y"]
    np.testing.assert_array_equal(given, stored(given))
    assert not np.isfinite(runner(with_rounding(model))([x * 1e4])["y"]).all()


def test_search_names_the_tensor_that_leaves_the_range(shipped: Bundle) -> None:
    graph, model = specs.head_graph(shipped), with_plain_weights(single(shipped, "head"))
    projection = next(node for node in model.graph.node if node.op_type == "MatMul")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == projection.input[1])
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(values * (60_000 / np.abs(values).max()), weight.name))
    with pytest.raises(
        ParityError, match=rf"{graph.name} in FP16: {projection.output[0]}\S* is not finite on features"
    ):
        search(graph, model, to_half(graph, model).model)


def test_weights_beyond_half_are_refused_by_name(shipped: Bundle) -> None:
    model = with_plain_weights(single(shipped, "head"))
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(70_000), weight.name))
    with pytest.raises(ExportError, match=rf"weight {weight.name} holds 7\S+, FP16 ends at 65504: serve it in FP32"):
        to_half(specs.head_graph(shipped), model)


def test_a_list_without_islands_leaves_none(shipped: Bundle) -> None:
    bare = replace(FP32_OPS, operators=(), activation_products=False, weights=(), min_columns=0)
    half = to_half(specs.head_graph(shipped), single(shipped, "head"), bare)
    assert sum(counts["single"] for counts in half.computed.values()) == half.computed["Reshape"]["single"] == 2


def test_half_graphs_answer_as_single_ones_do(with_half: Bundle, root: Path) -> None:
    clips = [*video_clips([root / "samples" / "flat_slides.mp4"], 224, (1, 16)), *synthetic_clips(224, (7,))]
    rungs = [
        Rung("FP16", OnnxPipeline(with_half.path(), precision="fp16"), FP16_TOLERANCE),
        Rung("FP16 stored", OnnxPipeline(with_half.path(), precision="fp16", prepare=with_rounding), FP16_TOLERANCE),
    ]
    for report in climb(OnnxPipeline(with_half.path()), rungs, clips):
        assert report.passed, report
        assert report.max_abs > 1e-6  # it is not the FP32 graph again


@pytest.mark.shared
def test_labels_of_real_clips_are_the_same_in_half(with_half: Bundle, real_clips: list[Path]) -> None:
    rung = Rung("FP16", OnnxPipeline(with_half.path(), precision="fp16", prepare=with_rounding), FP16_TOLERANCE)
    (report,) = climb(OnnxPipeline(with_half.path()), [rung], video_clips(real_clips, 224, (16,)))
    assert report.passed, report


def test_the_command_writes_graphs_and_the_report_of_casts(
    shipped: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "graphs", tmp_path / "casts.json"
    command = ["export", "onnx", "--bundle", str(shipped.path()), "--precision", "fp16", "--out", str(out)]
    assert main([*command, "--report", str(report)]) == 0
    assert capsys.readouterr().out.count(" casts  largest value ") == 2
    entries = json.loads(report.read_text())
    assert set(entries) == {"backbone_lite", "head_lite"}
    assert {cast["to"] for cast in entries["head_lite"]["casts"]} == {"half", "single"}
    first = {path.name: path.read_bytes() for path in (out / "fp16").iterdir()}
    assert set(first) == {"backbone.onnx", "head.onnx", "SHA256SUMS"}
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in (out / "fp16").iterdir()} == first


def test_a_bundle_without_graphs_says_how_to_make_them(
    shipped: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bundle.json", "backbone.safetensors", "head.safetensors"):
        (tmp_path / name).write_bytes(shipped.path(name).read_bytes())
    assert main(["export", "onnx", "--bundle", str(tmp_path), "--precision", "fp16"]) == 1
    assert "run: reelkind export onnx --bundle" in capsys.readouterr().err


def test_a_report_of_casts_without_casts_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "onnx", "--report", str(tmp_path / "casts.json")]) == 2
    assert "goes with --precision fp16" in capsys.readouterr().err


def test_a_damaged_graph_is_named(shipped: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "né lite"
    shutil.copytree(shipped.path(), folder, ignore=shutil.ignore_patterns("fp16"))
    head = folder / "onnx" / "head.onnx"
    head.write_bytes(b"\xff" * 64 + head.read_bytes()[64:])
    checksums.record(head)
    assert main(["export", "onnx", "--bundle", str(folder), "--precision", "fp16"]) == 1
    error = capsys.readouterr().err
    assert "né lite/onnx/head.onnx is no ONNX graph any more" in error
    assert error.count("\n") == 1
    assert not (folder / "onnx" / "fp16").exists()
