"""Exported graphs against the modules they were made from."""

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from reelkind.cli.main import main
from reelkind.core import bundle as bundles_on_disk
from reelkind.core.bundle import BackboneInfo, Bundle, HeadInfo
from reelkind.core.specs import head_graph
from reelkind.export.errors import ExportError, ParityError
from reelkind.export.graphs.canonical import IR_VERSION, OPSET, with_metadata
from reelkind.export.graphs.checkpoint import load_modules
from reelkind.export.graphs.half import to_half
from reelkind.export.graphs.modules import build_head_graph
from reelkind.export.parity.verify import verify
from reelkind.export.pipelines.onnx_runtime import onnxruntime
from reelkind.export.pipelines.reference import onnx_stage
from reelkind.export.pipelines.torch_pipeline import torch_stage
from reelkind.export.repository.graph_files import find_graph_file
from reelkind.export.repository.members import average_file
from reelkind.export.untrained import write_untrained_bundle
from reelkind.models.head import TemporalHead

InvalidArgument = onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument
GRAPHS = ("preprocess.onnx", "preprocess_tta.onnx", "backbone.onnx", "head.onnx", "average.onnx")
GRAPHS += ("temporal_views.onnx", "temporal_attention.onnx")


def model(bundle: Bundle, name: str) -> onnx.ModelProto:
    return onnx.load(bundle.path("onnx", name))


@pytest.fixture(scope="module")
def head() -> tuple[Bundle, TemporalHead, onnx.ModelProto]:
    """Four layers, as trained; weights far from zero in every gate, so that mixing them up shows."""
    torch.manual_seed(3)
    info = HeadInfo(feature_dim=24, width=16)
    module = TemporalHead(info).eval()
    with torch.no_grad():
        for weight in module.lstm.parameters():
            weight.copy_(torch.randn_like(weight))
    bundle = Bundle("odd", BackboneInfo("any", 24, 64), info, 16)
    return bundle, module, build_head_graph(bundle, module)


@pytest.mark.parametrize("num_frames", [1, 7, 16, 33, 257])
def test_head_is_right_at_any_number_of_frames(
    head: tuple[Bundle, TemporalHead, onnx.ModelProto], num_frames: int
) -> None:
    _, module, graph = head
    features = torch.randn(3, 2, num_frames, 24)
    given = onnx_stage(graph.SerializeToString())([features.numpy()])
    with torch.no_grad():
        expected = module.outputs(features.flatten(0, 1))
    assert [array.shape for array in given] == [(3, 2, 4), (3, 2, num_frames), (3, 2, 16), (3, 2, num_frames, 4)]
    for array, tensor in zip(given, expected, strict=True):
        np.testing.assert_allclose(array.reshape(tensor.shape), tensor, atol=1e-5)


@pytest.mark.parametrize("empty", [0, 1, 2], ids=["videos", "views", "frames"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_head_refuses_an_empty_axis_by_name(
    head: tuple[Bundle, TemporalHead, onnx.ModelProto], precision: str, empty: int
) -> None:
    bundle, _, model = head  # without the guard, ONNX Runtime ends this process on no videos
    model = model if precision == "fp32" else to_half(head_graph(bundle), model).model
    shape = [1, 1, 3, bundle.backbone.feature_dim]
    shape[empty] = 0
    with pytest.raises(InvalidArgument, match="no_axis_of_features_may_be_empty"):
        onnx_stage(model.SerializeToString())([np.zeros(shape, np.float32)])


def test_a_second_output_is_exported_and_stays_fp32_in_half() -> None:
    torch.manual_seed(3)
    info = HeadInfo(feature_dim=24, width=16, num_layers=1, num_subcategories=46)
    module, bundle = TemporalHead(info).eval(), Bundle("odd", BackboneInfo("any", 24, 64), info, 16)
    graph, features = build_head_graph(bundle, module), torch.randn(3, 2, 7, 24)
    given = onnx_stage(graph.SerializeToString())([features.numpy()])
    expected = torch_stage(module, 2)([features.numpy()])
    assert [array.shape for array in given] == [(3, 2, 4), (3, 2, 7), (3, 2, 16), (3, 2, 7, 4), (3, 2, 46)]
    for array, wanted in zip(given, expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=1e-5)
    half = to_half(head_graph(bundle), graph).model
    types = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    (weight,) = [name for name in types if "subcategory_classifier.weight" in name]
    assert types[weight] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.FLOAT16 in types.values()


def test_a_graph_that_lacks_an_output_of_this_release_is_named_with_the_way_out(lite: Bundle, tmp_path: Path) -> None:
    copy = bundles_on_disk.load(shutil.copytree(lite.path(), tmp_path / "lite"))
    file = find_graph_file(head_graph(copy), {"lite": copy})
    file.write_bytes(file.read_bytes().replace(b"frame_logits", b"other_logits"))
    said = r"head\.onnx is of an earlier release, which did not give frame_logits; run: reelkind export onnx --bundle "
    with pytest.raises(ExportError, match=said):
        find_graph_file(head_graph(copy), {"lite": copy})


def test_a_graph_with_one_flipped_bit_is_named_with_the_way_out(lite: Bundle, tmp_path: Path) -> None:
    copy = bundles_on_disk.load(shutil.copytree(lite.path(), tmp_path / "lite"))
    file = find_graph_file(head_graph(copy), {"lite": copy})
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of a weight
    file.write_bytes(content)
    with pytest.raises(ExportError, match=r"head\.onnx is not what was exported, by the SHA256SUMS .*; run: reelkind "):
        find_graph_file(head_graph(copy), {"lite": copy})


def test_a_graph_broken_on_purpose_is_named(head: tuple[Bundle, TemporalHead, onnx.ModelProto]) -> None:
    bundle, module, graph = head
    broken = onnx.ModelProto.FromString(graph.SerializeToString())
    second, third = [node for node in broken.graph.node if node.op_type == "LSTM"][1:3]
    second.input[1], third.input[1] = third.input[1], second.input[1]
    with pytest.raises(ParityError, match=r"head_odd: \w+ at B=\d V=\d T=\d+ differs by .* allowed is 1e-04"):
        verify(head_graph(bundle), broken.SerializeToString(), torch_stage(module, 2), 64)


def test_a_graph_with_fixed_frames_is_named(head: tuple[Bundle, TemporalHead, onnx.ModelProto]) -> None:
    bundle, module, graph = head

    def stage_of_five_frames(inputs: list[np.ndarray]) -> list[np.ndarray]:
        return list(torch_stage(module, 2)([inputs[0][:, :, :5]]))

    with pytest.raises(ParityError, match="head_odd: logits at B=2 V=2 T=7 differs"):
        verify(head_graph(bundle), graph.SerializeToString(), stage_of_five_frames, 64)


def test_a_graph_that_does_not_run_is_named(head: tuple[Bundle, TemporalHead, onnx.ModelProto]) -> None:
    bundle, module, graph = head
    broken = onnx.ModelProto.FromString(graph.SerializeToString())
    first = next(node for node in broken.graph.node if node.op_type == "LSTM")
    first.input[1], first.input[2] = first.input[2], first.input[1]
    with pytest.raises(ParityError, match=r"head_odd.*: ONNX Runtime refuses it"):
        verify(head_graph(bundle), broken.SerializeToString(), torch_stage(module, 2), 64)


@pytest.mark.parametrize("name", GRAPHS)
def test_files_carry_no_trace_of_machine_or_exporter(lite: Bundle, name: str) -> None:
    data = lite.path("onnx", name).read_bytes()
    readable = b"\n".join(re.findall(rb"[ -~]{6,}", data))
    for trace in (b"site-packages", b".py", b"/tmp", b"/home", b"pkg.torch", b"Traceback"):
        assert trace not in readable
    loaded = model(lite, name)
    assert (loaded.producer_name, loaded.ir_version) == ("reelkind", IR_VERSION)
    assert [(opset.domain, opset.version) for opset in loaded.opset_import] == [("", OPSET)]
    assert not any(node.doc_string or node.metadata_props for node in loaded.graph.node)
    assert all(node.name.endswith("_may_be_empty") for node in loaded.graph.node if node.name)


@pytest.mark.parametrize(
    ("name", "weights"), [("backbone.onnx", "backbone.safetensors"), ("head.onnx", "head.safetensors")]
)
def test_graphs_are_stored_in_half_precision(lite: Bundle, name: str, weights: str) -> None:
    assert lite.path("onnx", name).stat().st_size < 1.1 * lite.path(weights).stat().st_size + 8_000


def test_uint8_goes_into_a_cast_and_nowhere_else(lite: Bundle) -> None:
    nodes = model(lite, "backbone.onnx").graph.node
    assert [node.op_type for node in nodes if "views" in node.input] == ["Cast"]


def test_batch_norm_is_left_to_the_runtime_to_fold(lite: Bundle) -> None:
    operators = [node.op_type for node in model(lite, "backbone.onnx").graph.node]
    assert operators.count("BatchNormalization") == operators.count("Conv") > 0


def test_metadata_say_what_the_graph_is(lite: Bundle) -> None:
    entries = {entry.key: entry.value for entry in model(lite, "average.onnx").metadata_props}
    assert entries["members"] == "lite"
    assert entries["weights"] == "trained"
    assert set(entries) == {"contract_version", "kind", "members", "origin", "weights"}


def test_the_same_weights_give_the_same_bytes(lite: Bundle) -> None:
    loaded = model(lite, "head.onnx")
    entries = {entry.key: entry.value for entry in loaded.metadata_props}
    again = with_metadata(build_head_graph(lite, load_modules(lite)[1]), entries)
    assert again == lite.path("onnx", "head.onnx").read_bytes()


def test_random_weights_are_the_seeds_and_say_so(tmp_path: Path) -> None:
    bundles = [
        write_untrained_bundle(
            "dice", "mobilenet_v2", tmp_path / str(number), seed, frame_size_px=32, width=16, num_layers=1
        )
        for number, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (bundles_on_disk.weights_hash(bundle) for bundle in bundles)
    assert first == again != other
    assert not bundles[0].trained
    load_modules(bundles[0])


def test_weights_may_be_read_by_whoever_reads_the_bundle(tmp_path: Path) -> None:
    made = write_untrained_bundle("dice", "mobilenet_v2", tmp_path, frame_size_px=32, width=16, num_layers=1)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in made.path().iterdir()}
    assert len(modes) == 1, modes


def test_weights_that_do_not_fit_are_refused(tmp_path: Path, lite: Bundle) -> None:
    for name in ("bundle.json", "backbone.safetensors", "head.safetensors"):
        (tmp_path / name).write_bytes(lite.path(name).read_bytes())
    (tmp_path / "head.safetensors").write_bytes(lite.path("backbone.safetensors").read_bytes())
    with pytest.raises(ExportError, match="does not fit the bundle: lacks"):
        load_modules(bundles_on_disk.load(tmp_path))


def test_checked_in_graphs_are_a_fresh_export_of_the_weights_beside_them(lite: Bundle, shipped: Bundle) -> None:
    fresh, kept = (
        {path.name: path.read_bytes() for path in bundle.path("onnx").glob("*.onnx")} for bundle in (lite, shipped)
    )
    assert set(kept) - {"average_lite_lite2.onnx"} == set(GRAPHS)
    assert {name for name in GRAPHS if fresh[name] != kept[name]} == set(), "run: reelkind export onnx"


def test_the_checked_in_average_of_both_is_what_their_weights_give(shipped: Bundle, root: Path) -> None:
    other = bundles_on_disk.load(root / "bundles" / "lite2")
    assert average_file([other, shipped]) == shipped.path("onnx", "average_lite_lite2.onnx").read_bytes()


def test_a_name_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'ensemble' is taken"):
        write_untrained_bundle("ensemble", "mobilenet_v2", tmp_path / "dice")
    assert not (tmp_path / "dice").exists()


def test_rounding_of_the_reference_itself_is_not_a_mistake(
    head: tuple[Bundle, TemporalHead, onnx.ModelProto], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, module, graph = head
    monkeypatch.setattr("reelkind.export.parity.verify.TOLERANCE", 0.0)
    monkeypatch.setattr("reelkind.export.parity.verify.ROUNDING_FACTOR", 100)  # its size differs from CPU to CPU
    file, reference = graph.SerializeToString(), torch_stage(module, 2)
    with pytest.raises(ParityError, match=r"allowed is 0e\+00"):
        verify(head_graph(bundle), file, reference, 64)
    exact = torch_stage(module, 2, torch.float64)
    assert 0 < verify(head_graph(bundle), file, reference, 64, exact=lambda: exact) < 1e-5


def test_the_command_makes_an_untrained_member_ready_to_serve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dice"
    command = ["export", "untrained", "dice", "--backbone", "mobilenet_v2", "--size", "32", "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.count("  differs from PyTorch by ") == len(GRAPHS)
    bundle = bundles_on_disk.load(out)
    assert (bundle.name, bundle.trained, bundle.backbone.frame_size_px) == ("dice", False, 32)
    assert b"untrained" in bundle.path("onnx", "head.onnx").read_bytes()
    assert main(command) == 1  # what is there is not overwritten
    assert "is there already: choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["ensemble", "--backbone", "mobilenet_v2"], "'ensemble' is taken"),
        (["dice", "--backbone", "resnet18"], "unknown backbone 'resnet18'"),
    ],
)
def test_an_untrained_member_that_cannot_be_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    out = tmp_path / "dice"
    assert main(["export", "untrained", *options, "--out", str(out)]) == 1
    assert words in capsys.readouterr().err
    assert not out.exists()


def test_weights_that_fit_no_members_are_refused_before_anything_is_written(
    shipped: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "onnx", "--bundle", str(shipped.path()), "--out", str(tmp_path / "out")]
    assert main([*command, "--weights", "0.4,0.6"]) == 1
    assert "1 member(s) need as many weights" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--weights", "much"])
    assert "one for each --bundle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
