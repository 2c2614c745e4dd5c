"""Frames to features (`Backbone`) and features of a clip to logits (`TemporalHead`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reelkind.core.bundle import HeadInfo

# ImageNet statistics of RGB in [0, 255], as every torchvision classifier expects.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

HeadConfig = HeadInfo  # what a bundle stores is what builds the module


class Backbone(nn.Module):
    """Frames to features, normalisation included, so training and serving cannot differ in it.

    Attributes:
        feature_dim: D.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        feature_dim: int,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.body = body
        self.feature_dim = feature_dim
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 RGB [N, 3, S, S] to float [N, 3, S, S] of about zero mean and unit variance."""
        return (frames.to(self.mean.dtype) - self.mean) / self.std

    def forward(self, frames: Tensor) -> Tensor:
        """Features of each frame on its own.

        Args:
            frames: uint8 RGB [N, 3, S, S].

        Returns:
            float [N, D].
        """
        features: Tensor = self.body(self.normalise(frames))
        return features


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention over the frames of a clip."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features float [N, T, E] to float [N, T, E]."""
        num_clips, num_frames, width = x.shape
        split = (num_clips, num_frames, self.num_heads, width // self.num_heads)
        query = self.query(x).view(split).transpose(1, 2)  # [N, heads, T, E/heads]
        key = self.key(x).view(split).transpose(1, 2)
        value = self.value(x).view(split).transpose(1, 2)
        scores = query @ key.transpose(-2, -1) * (width // self.num_heads) ** -0.5  # [N, heads, T, T]
        mixed = scores.softmax(dim=-1) @ value  # [N, heads, T, E/heads]
        output: Tensor = self.output(mixed.transpose(1, 2).reshape(num_clips, num_frames, width))
        return output


class TemporalHead(nn.Module):
    """Features of T frames to logits: projection -> BiLSTM -> self-attention -> attention pooling -> classifier."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.feature_dim, config.width)
        self.projection_norm = nn.LayerNorm(config.width)
        self.lstm = nn.LSTM(
            config.width,
            config.width // 2,
            num_layers=config.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        self.self_attention = SelfAttention(config.width, config.num_attention_heads)
        self.attention_norm = nn.LayerNorm(config.width)
        self.pooling = nn.Linear(config.width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, config.num_classes)
        if config.num_subcategories:
            self.subcategory_classifier = nn.Linear(config.width, config.num_subcategories)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One prediction a clip, whatever its number of frames.

        Args:
            features: float32 [N, T, D], T >= 1.

        Returns:
            Logits float32 [N, K]; attention float32 [N, T], how much each frame counted (sums to 1);
            embedding float32 [N, E], the pooled clip before the classifier.
        """
        _, attention, embedding = self._pool(features)
        return self.classifier(self.dropout(embedding)), attention, embedding

    def outputs(self, features: Tensor) -> tuple[Tensor, ...]:
        """All that is served: what ``forward`` gives, then the logits of the frames, then those of the second output.

        Frames' logits, float32 [N, T, K], are what the classifier makes of each frame: as it is linear, their mean
        weighted by attention is the clip's logits. There are no others for heads without a second output.
        """
        x, attention, embedding = self._pool(features)
        served = self.classifier(self.dropout(embedding)), attention, embedding, self.classifier(self.dropout(x))
        return (*served, self.classify_subcategories(embedding)) if self.config.num_subcategories else served

    def classify_subcategories(self, embedding: Tensor) -> Tensor:
        """The second output, for heads trained with one: embedding float32 [N, E] to logits float32 [N, 46].

        Raises:
            ValueError: if the head has no such output.
        """
        if not self.config.num_subcategories:
            raise ValueError("this head was trained without subcategories (head.subcategory_weight = 0)")
        logits: Tensor = self.subcategory_classifier(self.dropout(embedding))
        return logits

    def _pool(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Frames as they are seen among the others [N, T, E], attention [N, T] and embedding [N, E]."""
        x = self.projection_norm(self.projection(features))  # [N, T, E]
        x = x + self.lstm(x)[0]  # the projection stays audible through four recurrent layers
        x = self.attention_norm(x + self.self_attention(x))
        attention = self.pooling(x).squeeze(-1).softmax(dim=-1)  # [N, T]
        return x, attention, (attention.unsqueeze(-1) * x).sum(dim=1)
