"""Seeded random weights as a bundle: real structure, size and speed, meaningless answers.

For tests, latency measurements and members nobody has trained yet. Such a bundle says ``trained: false`` everywhere
it goes: in its manifest, its graphs' metadata, the server's model parameters and every prediction.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, BackboneInfo, Bundle, HeadInfo, save
from reelkind.core.taxonomy.classes import NUM_SUBCATEGORIES
from reelkind.core.timing.clips import FRAME_SIZE_PX, NUM_FRAMES
from reelkind.models.backbones import build_backbone
from reelkind.models.clip_vit import TokenBody
from reelkind.models.head import TemporalHead
from reelkind.models.storage import round_as_stored, write_backbone, write_state

from .errors import ExportError
from .pipelines.clips import extreme_clips, synthetic_clips

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
    storage: str | None = None,
) -> Bundle:
    """Write a bundle of random weights; the same arguments give the same weights.

    Args:
        name: the member's name.
        backbone: one of ``models.backbones.BACKBONE_NAMES``.
        folder: where to; created.
        seed: of all weights.
        frame_size_px: S.
        width: E of the head.
        num_layers: LSTM layers of the head.
        subcategories_learnt: those it says it knows; None for a head without that output.
        storage: of the backbone's weights; by default int8 for transformers, FP16 for others.

    Raises:
        ExportError: if the name cannot name a member, or the sizes fit no network.
        ConfigError: if the backbone is unknown.
    """
    path = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = build_backbone(backbone, frame_size_px=frame_size_px)
        storage = storage or ("int8" if isinstance(body.body, TokenBody) else "float16")
        _calibrate(body, frame_size_px)
        round_as_stored(body, storage)
        info = BackboneInfo(backbone, body.feature_dim, frame_size_px, storage)
        bundle = _describe(name, info, seed, (width, num_layers), subcategories_learnt)
        head = TemporalHead(bundle.head)
        with torch.no_grad():
            head.classifier.weight.mul_(_LOGIT_GAIN)
            if bundle.has_subcategories:
                head.subcategory_classifier.weight.mul_(_LOGIT_GAIN)
    path.mkdir(parents=True, exist_ok=True)
    if storage == "int8":
        weights = write_backbone(path, body, storage)
        bundle = replace(bundle, backbone=replace(info, weights=weights))
    else:
        _write_halves(body, path / BACKBONE_WEIGHTS_NAME)
    _write_halves(head, path / HEAD_WEIGHTS_NAME)
    return save(bundle, path)


def _write_halves(module: nn.Module, path: Path) -> None:
    state = {key: tensor for key, tensor in module.state_dict().items() if tensor.is_floating_point()}
    write_state(path, {key: tensor.half().contiguous() for key, tensor in state.items()})


def _describe(
    name: str, backbone: BackboneInfo, seed: int, sizes: tuple[int, int], learnt: Sequence[str] | None
) -> Bundle:
    width, num_layers = sizes
    try:
        return Bundle(
            name=name,
            backbone=backbone,
            head=HeadInfo(
                feature_dim=backbone.feature_dim,
                width=width,
                num_layers=num_layers,
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
