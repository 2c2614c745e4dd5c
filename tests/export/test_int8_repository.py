"""A member stored as int8 in model repositories: which graph, which files beside it, and who is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.core.bundle import Bundle
from reelkind.core.files.whole_files import place_copy
from reelkind.core.specs import backbone_graph
from reelkind.deployment.files import version_files
from reelkind.export.errors import ExportError
from reelkind.export.onnx_files import export_bundle
from reelkind.export.pipelines.reference import onnx_stage, onnx_stages
from reelkind.export.repository.repository import standard_ensembles, write_repository
from reelkind.export.untrained import write_untrained_bundle
from reelkind.models.clip_vit import TINY_NAME
from reelkind.serving.runner import executors


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny tower of random weights, stored as int8; read only."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    bundle = write_untrained_bundle("tiny", TINY_NAME, folder, frame_size_px=32, width=16, num_layers=1)
    export_bundle(bundle)
    return bundle


def read(folder: Path, model: str) -> pb.ModelConfig:
    return text_format.Parse((folder / model / "config.pbtxt").read_text(), pb.ModelConfig())


def write(folder: Path, *bundles: Bundle, flavour: str = "python", precision: str = "auto") -> None:
    write_repository(folder, standard_ensembles(bundles), bundles, flavour, precision=precision)


@pytest.mark.parametrize("flavour", ["python", "onnxruntime"])
@pytest.mark.parametrize(("precision", "integers"), [("auto", True), ("int8", True), ("fp32", False)])
def test_the_graph_and_its_weights_lie_in_the_version_folder(
    tiny: Bundle, tmp_path: Path, flavour: str, precision: str, integers: bool
) -> None:
    write(tmp_path, tiny, flavour=flavour, precision=precision)
    version = tmp_path / "backbone_tiny" / "1"
    assert (version / "backbone_0.safetensors").read_bytes() == tiny.path(tiny.backbone.weights[0]).read_bytes()
    assert (b"MatMulInteger" in (version / "model.onnx").read_bytes()) == integers
    assert not list((tmp_path / "head_tiny").rglob("*.safetensors"))
    views = np.zeros((1, 1, 2, 3, 32, 32), np.uint8)
    assert onnx_stage(version / "model.onnx")([views])[0].shape == (1, 1, 2, 32)
    told = read(tmp_path, "classify").parameters
    assert ("precisions" in told) == integers
    config = read(tmp_path, "backbone_tiny")
    if flavour == "python":
        assert config.parameters["frames_per_run"].string_value == ("1" if integers else "4")
    else:
        assert (config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU) == integers


def test_ensembles_say_how_each_member_computes(tiny: Bundle, shipped: Bundle, tmp_path: Path) -> None:
    write(tmp_path, tiny, shipped)
    assert read(tmp_path, "classify_ensemble").parameters["precisions"].string_value == "fp32,int8"  # lite, tiny
    assert "precisions" not in read(tmp_path, "classify_lite").parameters
    assert b"MatMulInteger" not in (tmp_path / "backbone_lite" / "1" / "model.onnx").read_bytes()


def test_int8_for_members_that_are_not_stored_so_is_refused(shipped: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no member is stored as int8 \(lite\)"):
        write(tmp_path, shipped, precision="int8")


def test_a_promotion_brings_the_graph_that_is_served_and_its_weights(tiny: Bundle, tmp_path: Path) -> None:
    for precision in ("int8", "fp32"):
        folder = tmp_path / precision
        write(folder, tiny, precision=precision)
        configs = {"classify_tiny": read(folder, "classify_tiny")}
        files = version_files(folder, configs, tiny, {})["backbone_tiny"]
        assert files["model.onnx"] == tiny.path(
            "onnx", "backbone_int8.onnx" if precision == "int8" else "backbone.onnx"
        )
        assert files["backbone_0.safetensors"] == tiny.path("onnx", "backbone_0.safetensors")


def test_a_promotion_from_int8_to_another_storage_is_refused(tiny: Bundle, tmp_path: Path) -> None:
    write(tmp_path, tiny)
    other = dataclasses.replace(tiny, backbone=dataclasses.replace(tiny.backbone, storage="float16"))
    with pytest.raises(ExportError, match="is not stored as int8: stop the server"):
        version_files(tmp_path, {"classify_tiny": read(tmp_path, "classify_tiny")}, other, {})


def test_weights_are_placed_as_another_name_of_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "a.onnx").write_bytes(b"graph")
    for suffix, same in ((".safetensors", True), (".onnx", False)):
        for _ in range(2):  # also where one is already
            place_copy(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").samefile(tmp_path / f"b{suffix}") == same
        assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"a{suffix}").read_bytes()


def test_no_frame_depends_on_what_is_asked_with_it(tiny: Bundle) -> None:
    path = tiny.path("onnx", "backbone_int8.onnx")
    alone, runtime = onnx_stage(path, num_threads=1), executors.load(path, "onnxruntime", 2, frames_per_run=1)
    rng = np.random.default_rng(0)
    requests = [
        rng.integers(0, 256, (*shape, 3, 32, 32), dtype=np.uint8) for shape in ((2, 4, 3), (1, 1, 5), (1, 2, 1))
    ]
    answers = runtime.run([{"views": views} for views in requests])
    pipeline = onnx_stages({backbone_graph(tiny): path}, 2, "int8")["backbone_tiny"]
    for views, answer in zip(requests, answers, strict=True):
        assert not isinstance(answer, Exception)
        assert answer[0].shape == (*views.shape[:3], 32)
        for place in np.ndindex(views.shape[:3]):
            (expected,) = alone([views[place][None, None, None]])
            np.testing.assert_array_equal(answer[0][place], expected[0, 0, 0])
        np.testing.assert_array_equal(pipeline([views])[0], answer[0])
    together = alone([requests[0]])[0]
    assert not np.array_equal(together, answers[0][0])  # which is why
