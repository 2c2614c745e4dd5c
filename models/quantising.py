"""Linear layers to int8 in place: what is trained on, measured and shipped are the same rounded numbers.

Weights keep seven of the eight bits. Processors without VNNI add pairs of uint8 x int8 products in 16 bits, which
overflows beyond 63 x 255 x 2; with all eight bits the same graph gives other answers there.

Before rounding, large activations are moved into the weights (SmoothQuant, arXiv:2211.10438), by powers of two: the
network computes bit for bit what it did, and small differences between decoders move nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reelkind.core.errors import ConfigError
from reelkind.video.clip import read_clip

from .clip_vit import TokenBody
from .head import Backbone

LARGEST = 63  # of the stored integers: seven bits
SCALE_BITS = 12  # of a scale's mantissa that are kept: 63 times it is exact, so rounding twice changes nothing
SMOOTHING = 0.5  # alpha of SmoothQuant: half of the range goes into the weights
MIN_RANGE = 1e-5
CLIPPING = tuple(np.linspace(1.0, 0.7, 13).tolist())  # shares of the largest weight that are tried as the largest kept

CALIBRATION_FOLDER = Path(__file__).parents[1] / "samples"
CALIBRATION_FRAMES_PER_FILE = 4


def prepare(backbone: Backbone, frame_size_px: int) -> None:
    """Smooth and round a freshly built backbone; depends on its weights and the shipped sample videos alone.

    So the frozen part of a bundle, and features cached of it, stay the same when training data changes.

    Raises:
        ConfigError: if it has no transformer blocks, or the sample videos are not there.
    """
    smooth(backbone, calibration_frames(frame_size_px))
    round_to_int8(backbone)


def calibration_frames(frame_size_px: int) -> Tensor:
    """Frames of the repository's sample videos, uint8 [N, 3, S, S].

    Raises:
        ConfigError: if there are none, as in an installed wheel.
    """
    paths = sorted(CALIBRATION_FOLDER.glob("*.mp4"))
    if not paths:
        raise ConfigError(
            f"backbone.storage = 'int8' is calibrated on the sample videos, and {CALIBRATION_FOLDER} has none: train "
            "from a checkout of the repository, or use backbone.storage = 'float16'"
        )
    clips = [read_clip(path, num_frames=CALIBRATION_FRAMES_PER_FILE, size_px=frame_size_px).frames for path in paths]
    return torch.from_numpy(np.concatenate(clips)).permute(0, 3, 1, 2)


@torch.no_grad()
def smooth(backbone: Backbone, frames: Tensor) -> None:
    """Divide what each norm gives by powers of two, channel by channel, and multiply the weights behind it.

    Args:
        backbone: a transformer, changed in place; gives the same features as before.
        frames: uint8 [N, 3, S, S] that activations are measured on.

    Raises:
        ConfigError: if it has no transformer blocks.
    """
    blocks = _transformer_blocks(backbone)
    ranges = _input_ranges(backbone, frames)
    for block in blocks:
        for norm, linear in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            factors = _smoothing_factors(ranges[linear], linear.weight)
            norm.weight.div_(factors)
            norm.bias.div_(factors)
            linear.weight.mul_(factors)
        factors = _smoothing_factors(ranges[block.attn.proj], block.attn.proj.weight)
        width = len(factors)  # attention mixes tokens, not channels: what it gives can be scaled where values are made
        block.attn.qkv.weight[-width:].div_(factors.unsqueeze(1))
        block.attn.qkv.bias[-width:].div_(factors)
        block.attn.proj.weight.mul_(factors)


@torch.no_grad()
def round_to_int8(module: nn.Module) -> None:
    """Round the weights of linear layers in place to integers times a scale; a second time changes nothing."""
    for _, linear in linear_layers(module):
        integers, scale = quantise(linear.weight)
        linear.weight.copy_(integers.float() * scale.unsqueeze(1))


def linear_layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Names and linear layers of transformer blocks, which are what `round_to_int8` rounds."""
    for name, found in module.named_modules():
        if isinstance(found, nn.Linear):
            yield name, found


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights float32 [out, in] to integers int8 [out, in] of at most ``LARGEST`` and scales float32 [out].

    Of a few scales each row gets the one with the least squared error; ties go to the largest.
    """
    largest = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny * 2**SCALE_BITS)
    best_error = torch.full_like(largest, torch.inf)
    best_scale = torch.empty_like(largest)
    for share in CLIPPING:
        scale = _short_mantissa(largest * share / LARGEST)
        error = (_integers(weight, scale) * scale.unsqueeze(1) - weight).square().sum(dim=1)
        better = error < best_error
        best_error, best_scale = torch.where(better, error, best_error), torch.where(better, scale, best_scale)
    return _integers(weight, best_scale).to(torch.int8), best_scale


def _integers(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight / scale.unsqueeze(1)).round().clamp(-LARGEST, LARGEST)


def _short_mantissa(values: Tensor) -> Tensor:
    """Positive floats rounded to ``SCALE_BITS`` bits of mantissa."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2**SCALE_BITS).round(), exponent - SCALE_BITS)


def _smoothing_factors(input_range: Tensor, weight: Tensor) -> Tensor:
    """Powers of two, float32 [in]: how much each input channel of a linear layer is to be divided by."""
    weight_range = weight.abs().amax(dim=0).clamp_min(MIN_RANGE)
    wanted = input_range.clamp_min(MIN_RANGE) ** SMOOTHING / weight_range ** (1 - SMOOTHING)
    return torch.exp2(wanted.log2().round())


@torch.no_grad()
def _input_ranges(backbone: Backbone, frames: Tensor) -> dict[nn.Module, Tensor]:
    """Largest magnitude of each input channel, float32 [in], of every linear layer."""
    ranges: dict[nn.Module, Tensor] = {}

    def note(linear: nn.Module, inputs: tuple[Any, ...]) -> None:
        found = inputs[0].abs().flatten(0, -2).amax(dim=0)
        ranges[linear] = torch.maximum(ranges.get(linear, found), found)

    with ExitStack() as stack:
        for _, linear in linear_layers(backbone):
            stack.callback(linear.register_forward_pre_hook(note).remove)
        for place in range(len(frames)):
            backbone(frames[place : place + 1])
    return ranges


def _transformer_blocks(backbone: Backbone) -> list[Any]:
    if not isinstance(backbone.body, TokenBody):
        raise ConfigError("backbone.storage = 'int8' is for transformers (clip_vit_b16); others take 'float16'")
    return backbone.body.transformer_blocks
