"""Seeded random weights as a bundle: real structure, size and speed, meaningless answers.

For tests, latency measurements and members nobody has trained yet. Such a bundle says ``trained: false`` everywhere
it goes: in its manifest, its graphs' metadata, the server's model parameters and every prediction.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from reelkind.core.bundle import (
    BACKBONE_WEIGHTS_NAME,
    HEAD_WEIGHTS_NAME,
    BackboneInfo,
    Bundle,
    HeadInfo,
    save,
)
from reelkind.core.clips import FRAME_SIZE_PX, NUM_FRAMES
from reelkind.core.taxonomy import NUM_SUBCATEGORIES
from reelkind.training.backbones import build_backbone
from reelkind.training.models import TemporalHead

from .clips import extreme_clips, synthetic_clips
from .errors import ExportError

_LOGIT_GAIN = 6  # spreads the answers, so that a wrong graph is seen in probabilities


def write_untrained_bundle(
    name: str,
    backbone: str,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    frame_size_px: int = FRAME_SIZE_PX,
    width: int = 256,
    num_layers: int = 4,
    subcategories_learnt: Sequence[str] | None = None,
) -> Bundle:
    """Write a bundle of random weights; the same arguments give the same weights.

    Args:
        name: the member's name.
        backbone: one of ``training.backbones.BACKBONE_NAMES``.
        folder: where to; created.
        seed: of all weights.
        frame_size_px: S.
        width: E of the head.
        num_layers: LSTM layers of the head.
        subcategories_learnt: those it says it knows; None for a head without that output.

    Raises:
        ExportError: if the name cannot name a member, or the sizes fit no network.
        ConfigError: if the backbone is unknown.
    """
    path = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = build_backbone(backbone)
        sizes = _Sizes(body.feature_dim, frame_size_px, width, num_layers)
        bundle = _describe(name, backbone, seed, sizes, subcategories_learnt)
        _calibrate(body, frame_size_px)
        head = TemporalHead(bundle.head)
        with torch.no_grad():
            head.classifier.weight.mul_(_LOGIT_GAIN)
            if bundle.has_subcategories:
                head.subcategory_classifier.weight.mul_(_LOGIT_GAIN)
    path.mkdir(parents=True, exist_ok=True)
    for module, file_name in ((body, BACKBONE_WEIGHTS_NAME), (head, HEAD_WEIGHTS_NAME)):
        state = {key: tensor for key, tensor in module.state_dict().items() if tensor.is_floating_point()}
        halves = {key: tensor.half().contiguous() for key, tensor in state.items()}
        (path / file_name).write_bytes(safetensors.torch.save(halves))
    return save(bundle, path)


@dataclass(frozen=True)
class _Sizes:
    feature_dim: int
    frame_size_px: int
    width: int
    num_layers: int


def _describe(name: str, backbone: str, seed: int, sizes: _Sizes, learnt: Sequence[str] | None) -> Bundle:
    try:
        return Bundle(
            name=name,
            backbone=BackboneInfo(backbone, sizes.feature_dim, sizes.frame_size_px),
            head=HeadInfo(
                feature_dim=sizes.feature_dim,
                width=sizes.width,
                num_layers=sizes.num_layers,
                num_subcategories=0 if learnt is None else NUM_SUBCATEGORIES,
            ),
            num_frames=NUM_FRAMES,
            trained=False,
            subcategories_learnt=tuple(learnt or ()),
            provenance={"weights": f"random, seed {seed}: answers mean nothing"},
        )
    except ValueError as error:
        raise ExportError(str(error)) from error


def _calibrate(backbone: nn.Module, frame_size_px: int) -> None:
    """Set BatchNorm's statistics from pictures of many kinds.

    With the initial ones deep features vanish; with those of noise alone a black frame drives them out of FP16's range.
    """
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # plain average instead of a moving one
    clips = [*extreme_clips(frame_size_px), *synthetic_clips(frame_size_px, (1,))]
    frames = torch.from_numpy(np.concatenate([clip.frames for clip in clips])).permute(0, 3, 1, 2)
    backbone.train()
    with torch.no_grad():
        backbone(frames)
    backbone.eval()
