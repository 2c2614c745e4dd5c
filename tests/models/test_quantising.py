"""Smoothing that changes nothing, and rounding that is what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reelkind.core.bundle import BackboneInfo
from reelkind.core.errors import ConfigError
from reelkind.models import quantising, storage
from reelkind.models.backbones import build_backbone, read_state_dict
from reelkind.models.clip_vit import TINY_NAME
from reelkind.models.head import Backbone


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    backbone = build_backbone(TINY_NAME, frame_size_px=64)
    with torch.no_grad():
        for block in backbone.body.transformer_blocks:  # norms as training leaves them: a few loud channels
            for norm in (block.norm1, block.norm2):
                norm.weight.copy_(torch.rand(norm.weight.shape) + 0.5)
                norm.weight[::7] *= 40
                norm.bias.normal_()
            block.attn.qkv.bias.normal_()
    return backbone


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def loudness(backbone: Backbone, frames: torch.Tensor) -> float:
    """How far the loudest input channel of the first product stands out of the others."""
    ranges = quantising._input_ranges(backbone, frames)[backbone.body.transformer_blocks[0].attn.qkv]
    return float(ranges.max() / ranges.median())


def test_smoothing_moves_loud_channels_and_changes_no_feature(backbone: Backbone, frames: torch.Tensor) -> None:
    with torch.no_grad():
        before, loud = backbone(frames), loudness(backbone, frames)
        quantising.smooth(backbone, frames)
        torch.testing.assert_close(backbone(frames), before, rtol=1e-5, atol=1e-6)
    assert loudness(backbone, frames) < loud / 3


def test_smoothing_makes_rounded_activations_cost_less(backbone: Backbone, frames: torch.Tensor) -> None:
    before = rounding_error(backbone, frames)
    quantising.smooth(backbone, frames)
    assert rounding_error(backbone, frames) < 0.7 * before


def rounding_error(backbone: Backbone, frames: torch.Tensor) -> float:
    """Share of the first product that is lost with its input in eight bits, as the int8 graph has it."""
    block = backbone.body.transformer_blocks[0]
    with torch.no_grad():
        x = block.norm1(backbone.body.features[0](backbone.normalise(frames)))
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        zero_point = round(-low / (high - low) * 255)
        rounded = torch.fake_quantize_per_tensor_affine(x, (high - low) / 255, zero_point, 0, 255)
        exact = block.attn.qkv(x)
        return float((block.attn.qkv(rounded) - exact).norm() / exact.norm())


def test_integers_keep_seven_bits_and_the_best_scale() -> None:
    weight = torch.randn(16, 4000, generator=torch.Generator().manual_seed(0))
    weight[3], weight[4] = 0, 1e-12
    integers, scale = quantising.quantise(weight)
    assert integers.dtype == torch.int8
    assert (integers.abs().amax(dim=1) == torch.tensor([63] * 3 + [0] + [63] * 12)).all()
    plain = weight.abs().amax(dim=1).clamp_min(1e-20) / 63
    plain_error = ((weight / plain[:, None]).round() * plain[:, None] - weight).square().sum(dim=1)
    error = (integers.float() * scale[:, None] - weight).square().sum(dim=1)
    assert (error <= plain_error * 1.02 + 1e-20).all()
    assert error.sum() < 0.95 * plain_error.sum()  # the few largest weights are cut
    assert torch.equal(scale, (scale * 63) / 63)


def test_rounding_twice_changes_nothing(backbone: Backbone) -> None:
    storage.round_as_stored(backbone, "int8")
    once = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    storage.round_as_stored(backbone, "int8")
    assert all(torch.equal(tensor, once[name]) for name, tensor in backbone.state_dict().items())


def test_what_is_stored_is_what_was_rounded(
    backbone: Backbone, frames: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MAX_FILE_BYTES", 60_000)
    storage.round_as_stored(backbone, "int8")
    names = storage.write_backbone(tmp_path, backbone, "int8")
    assert len(names) > 1
    assert all((tmp_path / name).stat().st_size < 80_000 for name in names)
    shards = [read_state_dict(tmp_path / name) for name in names]
    stored = {name: tensor for shard in shards for name, tensor in shard.items()}
    assert len(stored) == sum(map(len, shards))
    weight = stored["body.features.1.attn.qkv.weight_int8"]
    assert (weight.dtype, weight.shape) == (torch.int8, (32, 96))
    assert stored["body.features.1.attn.qkv.weight_scale"].shape == (96,)
    again = build_backbone(TINY_NAME, frame_size_px=64)
    again.load_state_dict(storage.expand(stored))
    with torch.no_grad():
        assert torch.equal(again(frames), backbone(frames))


def test_calibration_is_the_same_for_everybody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = quantising.calibration_frames(32)
    assert (first.shape[1:], first.dtype) == ((3, 32, 32), torch.uint8)
    assert len(first) == 16
    monkeypatch.setattr(quantising, "CALIBRATION_FOLDER", tmp_path)
    with pytest.raises(ConfigError, match="calibrated on the sample videos"):
        quantising.calibration_frames(32)


def test_convolutional_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="is for transformers"):
        quantising.prepare(build_backbone("mobilenet_v2"), 64)


def test_a_backbone_without_files_is_no_backbone() -> None:
    with pytest.raises(ValueError, match="no files"):
        BackboneInfo("x", 3, 64, weights=())
