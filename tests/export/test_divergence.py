"""A rung that fails says where: the stage, and inside a network the first layer."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from reelkind.cli.export import command as command
from reelkind.core import bundle as bundles_on_disk
from reelkind.core.bundle import Bundle
from reelkind.core.files import checksums
from reelkind.core.specs import FP16_TOLERANCE
from reelkind.export.errors import ExportError
from reelkind.export.parity.divergence import locate, onnx_layers
from reelkind.export.pipelines.clips import synthetic_clips
from reelkind.export.pipelines.intermediates import first_divergence
from reelkind.export.pipelines.reference import OnnxPipeline


@pytest.fixture
def frames() -> np.ndarray:
    return next(synthetic_clips(224, (1,))).frames[None]


def spoil(path: Path, operator: str, number: int) -> str:
    """Turn the sign of the weights of an operator in a graph's file; the name of its result."""
    model = onnx.load(path)
    node = [node for node in model.graph.node if node.op_type == operator][number]
    weight = next(
        tensor for tensor in model.graph.initializer if tensor.name in (node.input[1], f"{node.input[1]}.half")
    )
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    path.write_bytes(model.SerializeToString())
    checksums.record(path)
    return node.output[0]


@pytest.fixture
def spoilt(with_half: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(with_half.path(), tmp_path / "lite")
    return bundles_on_disk.load(tmp_path / "lite")


def where(reference: OnnxPipeline, rung: OnnxPipeline, frames: np.ndarray) -> str:
    return locate(
        reference.ensemble,
        reference(frames),
        rung(frames),
        FP16_TOLERANCE.layer_error,
        model_of=reference.model,
        expected_layers=onnx_layers(reference.model),
        given_layers=onnx_layers(rung.model),
    )


@pytest.mark.parametrize(("file", "operator", "number"), [("backbone", "Conv", 30), ("head", "MatMul", 0)])
def test_first_wrong_layer_of_a_half_graph_is_named(
    with_half: Bundle, spoilt: Bundle, frames: np.ndarray, file: str, operator: str, number: int
) -> None:
    name = spoil(spoilt.path("onnx", "fp16", f"{file}.onnx"), operator, number)
    found = where(OnnxPipeline(with_half.path()), OnnxPipeline(spoilt.path(), precision="fp16"), frames)
    assert found.startswith(f"{file}_lite: ")
    # A convolution has taken its norm in, and the FP32 graph names that result after the norm.
    assert f" -> {name}: relative error " in found


def test_graphs_that_agree_have_no_place_to_name(with_half: Bundle, frames: np.ndarray) -> None:
    single, half = OnnxPipeline(with_half.path()), OnnxPipeline(with_half.path(), precision="fp16")
    assert where(single, half, frames) == "no stage that it shows differs by more than 5e-02, only the answers do"


def test_a_stage_without_layers_is_named_alone(with_half: Bundle, frames: np.ndarray) -> None:
    pipeline = OnnxPipeline(with_half.path())
    given = pipeline(frames)
    given["embedding_lite"] = given["embedding_lite"] + 1
    found = locate(pipeline.ensemble, pipeline(frames), given, 1e-3, model_of=pipeline.model)
    assert found.startswith("head_lite: embedding_lite has a relative error of ")


def test_sides_without_a_common_tensor_prove_nothing(with_half: Bundle) -> None:
    pipeline = OnnxPipeline(with_half.path())
    model = pipeline.model(pipeline.ensemble.steps[1].graph)
    with pytest.raises(ExportError, match="no intermediate tensor of backbone_lite is known on both sides"):
        first_divergence(model, {"a": np.ones(1)}, {"b": np.ones(1)}, 1e-3)


@pytest.fixture
def run(tmp_path: Path, root: Path) -> Callable[..., tuple[int, dict[str, object]]]:
    def run(bundle: Bundle, *options: str) -> tuple[int, dict[str, object]]:
        parser, out = argparse.ArgumentParser(), tmp_path / "parity.json"
        command.add_parser(parser.add_subparsers())
        clip = str(root / "samples" / "flat_slides.mp4")
        base = ["export", "parity", "--bundle", str(bundle.path()), "--clips", clip, "--frames", "2"]
        args = parser.parse_args([*base, "--json", str(out), *options])
        return args.run(args), json.loads(out.read_text())

    return run


def test_the_command_climbs_the_half_rungs(
    run: Callable[..., tuple[int, dict[str, object]]], with_half: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = run(with_half, "--fp16")
    assert status == 0
    assert [rung["name"] for rung in report["rungs"]] == ["ONNX FP32", "ONNX FP16", "FP16 as stored"]  # type: ignore[index,attr-defined]
    assert all(rung["passed"] and not rung["divergence"] for rung in report["rungs"])  # type: ignore[attr-defined]
    assert capsys.readouterr().out.count("pass") == 3


def test_the_command_names_the_layer_where_an_export_parts_from_pytorch(
    run: Callable[..., tuple[int, dict[str, object]]], spoilt: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    name = spoil(spoilt.path("onnx", "backbone.onnx"), "Conv", 20)
    status, report = run(spoilt)
    assert status == 1
    (rung,) = report["rungs"]  # type: ignore[misc]
    assert f"first inside: Conv -> {name}: relative error " in rung["divergence"]  # type: ignore[index]
    printed = capsys.readouterr().out
    assert "FAIL on flat_slides.mp4 at T=2" in printed
    assert name in printed
