"""A bundle stored as int8: graphs that point at its weights, and compute what PyTorch computes with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from reelkind.core import bundle as bundles_on_disk
from reelkind.core import specs
from reelkind.core.bundle import Bundle, weights_hash
from reelkind.export.errors import ExportError, ParityError
from reelkind.export.graphs.canonical import read_model
from reelkind.export.graphs.checkpoint import load_modules
from reelkind.export.graphs.constants import with_plain_weights
from reelkind.export.graphs.half import to_half
from reelkind.export.onnx_files import export_bundle, export_half
from reelkind.export.parity.half_check import search
from reelkind.export.pipelines.reference import OnnxPipeline, onnx_stage
from reelkind.export.pipelines.torch_pipeline import torch_stage
from reelkind.export.repository.graph_files import files_beside, find_graph_file
from reelkind.export.stored_weights import pointing_at, stored_tensors, with_integer_products, with_integers
from reelkind.export.untrained import write_untrained_bundle
from reelkind.models import storage
from reelkind.models.clip_vit import TINY_NAME

NUM_LAYERS = 8  # linear ones of the tiny tower


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny tower of random weights in two files, with graphs; read only."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "MAX_FILE_BYTES", 60_000)
        bundle = write_untrained_bundle("tiny", TINY_NAME, folder, frame_size_px=32, width=16, num_layers=1)
    assert len(bundle.backbone.weights) == 2
    export_bundle(bundle)
    return bundle


def graph_file(bundle: Bundle, precision: str = "fp32") -> Path:
    return find_graph_file(specs.backbone_graph(bundle), {bundle.name: bundle}, precision)


def pictures(seed: int = 0, num_frames: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 1, num_frames, 3, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_graphs_hold_no_weights_and_point_at_those_of_the_bundle(tiny: Bundle, precision: str) -> None:
    path = graph_file(tiny, precision)
    assert path.parent == tiny.path("onnx")
    model = onnx.load(path, load_external_data=False)
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    assert sum(tensor.data_type == TensorProto.INT8 for tensor in outside) == NUM_LAYERS
    named = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    assert named == {Path(name).name for name in tiny.backbone.weights}
    assert named == {file.name for file in files_beside(specs.backbone_graph(tiny), {"tiny": tiny})}
    stored = stored_tensors(tiny)
    for tensor in read_model(path).graph.initializer:
        if tensor.name in stored:
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), stored[tensor.name].values)


def test_products_are_of_integers_in_one_graph_and_of_floats_in_the_other(tiny: Bundle) -> None:
    operators = {
        precision: [node.op_type for node in read_model(graph_file(tiny, precision)).graph.node]
        for precision in ("fp32", "int8")
    }
    assert operators["int8"].count("MatMulInteger") == NUM_LAYERS
    assert "MatMulInteger" not in operators["fp32"]
    assert operators["fp32"].count("MatMul") == NUM_LAYERS + 4  # attention multiplies activations
    assert operators["int8"].count("MatMul") == 4


def test_both_graphs_compute_what_the_stored_weights_say(tiny: Bundle) -> None:
    backbone, _ = load_modules(tiny)
    (expected,) = torch_stage(backbone, 3)([pictures()])
    (single,) = onnx_stage(graph_file(tiny))([pictures()])
    np.testing.assert_allclose(single, expected, atol=1e-5)
    (integer,) = onnx_stage(graph_file(tiny, "int8"))([pictures()])
    assert 0 < np.sqrt(np.mean((integer - expected) ** 2) / np.mean(expected**2)) < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 7), (3, 1, 2)])
def test_any_number_of_frames_passes_the_int8_graph(tiny: Bundle, shape: tuple[int, int, int]) -> None:
    views = np.random.default_rng(0).integers(0, 256, (*shape, 3, 32, 32), dtype=np.uint8)
    (features,) = onnx_stage(graph_file(tiny, "int8"))([views])
    assert features.shape == (*shape, 32)


def test_the_same_weights_give_the_same_files(tiny: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny.path(), tmp_path / "again")
    again = bundles_on_disk.load(tmp_path / "again")
    export_bundle(again)
    for path in tiny.path("onnx").iterdir():
        assert (tmp_path / "again" / "onnx" / path.name).read_bytes() == path.read_bytes()


def test_graphs_written_elsewhere_take_their_weights_along(tiny: Bundle, tmp_path: Path) -> None:
    export_bundle(tiny, tmp_path)
    (expected,) = onnx_stage(graph_file(tiny))([pictures()])
    np.testing.assert_array_equal(onnx_stage(tmp_path / "backbone.onnx")([pictures()])[0], expected)


def test_other_weights_make_the_graphs_stale(tiny: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny.path(), tmp_path / "changed")
    changed, before = bundles_on_disk.load(tmp_path / "changed"), weights_hash(tiny)
    path = changed.path(changed.backbone.weights[1])
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert weights_hash(changed) != before
    for precision in ("fp32", "int8"):
        with pytest.raises(ExportError, match="was not made from the weights"):
            graph_file(changed, precision)
    path.unlink()
    with pytest.raises(ExportError, match=r"backbone\.onnx points at weights that are not beside it"):
        read_model(tmp_path / "changed" / "onnx" / "backbone.onnx")


def test_weights_that_the_graph_does_not_hold_are_noticed(tiny: Bundle) -> None:
    plain, tensors = with_plain_weights(read_model(graph_file(tiny))), stored_tensors(tiny)
    assert len(with_integers(plain, tensors).graph.initializer) > len(plain.graph.initializer)
    name = "body.features.1.attn.qkv.weight_int8"
    changed = tensors | {name: type(tensors[name])("x", 0, -tensors[name].values)}
    with pytest.raises(ExportError, match=r"does not hold body\.features\.1\.attn\.qkv\.weight"):
        with_integers(plain, changed)


def test_a_wrong_int8_graph_is_refused(tiny: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def with_a_wrong_scale(model: onnx.ModelProto) -> onnx.ModelProto:
        wrong = with_integer_products(model)
        scale = next(tensor for tensor in wrong.graph.initializer if tensor.name.endswith("1.mlp.fc2.weight_scale"))
        scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 40, scale.name))
        return wrong

    monkeypatch.setattr("reelkind.export.onnx_files.with_integer_products", with_a_wrong_scale)
    with pytest.raises(ParityError, match="with integer products differs by"):
        export_bundle(tiny, tmp_path)
    assert not list(tmp_path.glob("*.onnx"))


def test_half_graphs_hold_their_weights_and_keep_norms_and_softmax_wide(tiny: Bundle, tmp_path: Path) -> None:
    backbone, _ = export_half(tiny, tmp_path)
    model = onnx.load(backbone.path)
    assert not [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    assert backbone.computed["LayerNormalization"]["half"] == backbone.computed["Softmax"]["half"] == 0
    assert backbone.computed["MatMul"]["half"] == NUM_LAYERS
    assert backbone.report.worst_error < 1e-2
    (given,), (expected,) = onnx_stage(backbone.path)([pictures()]), onnx_stage(graph_file(tiny))([pictures()])
    np.testing.assert_allclose(given, expected, rtol=2e-2, atol=2e-2)


def test_the_search_for_overflow_reads_weights_from_outside(tiny: Bundle) -> None:
    graph, single = specs.backbone_graph(tiny), read_model(graph_file(tiny))
    assert search(graph, single, to_half(graph, single).model).num_inputs > 5


def test_a_pipeline_runs_either_precision(tiny: Bundle) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 5, 32, 32, 3), dtype=np.uint8)
    single, integer = (OnnxPipeline(tiny.path(), precision=precision)(frames) for precision in ("fp32", "int8"))
    np.testing.assert_allclose(integer["probabilities"], single["probabilities"], atol=0.1)
    assert not np.array_equal(integer["features_tiny"], single["features_tiny"])


def test_pointing_changes_no_value(tiny: Bundle, tmp_path: Path) -> None:
    model, tensors = read_model(graph_file(tiny)), stored_tensors(tiny)
    for name in tiny.backbone.weights:
        shutil.copyfile(tiny.path(name), tmp_path / Path(name).name)
    (tmp_path / "x.onnx").write_bytes(pointing_at(model, tensors).SerializeToString())
    before, after = (
        {t.name: onnx.numpy_helper.to_array(t) for t in each.graph.initializer}
        for each in (model, onnx.load(tmp_path / "x.onnx"))
    )
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_tensorrt_takes_a_transformer_in_both_precisions(tiny: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (make setup-gate)")
    from reelkind.export.tensorrt.gate import judge_bundles

    verdicts = [verdict for verdict in judge_bundles([tiny]) if verdict.graph == "backbone_tiny"]
    assert [verdict.precision for verdict in verdicts] == ["fp32", "fp16"]
    assert not any(verdict.refusal for verdict in verdicts)
