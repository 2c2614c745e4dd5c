"""A TOML file to the configuration of a head trained on YouTube-8M's own frame features."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelkind.core.errors import ConfigError

from ..config import HeadTrainConfig
from ..schema import apply_override, build

KIND = "yt8m_features"


@dataclass(frozen=True)
class FeaturesDataConfig:
    """What is taken of the shards."""

    videos_per_subcategory: int = 100
    """At most this many training videos of each, as many test videos, and validation videos in proportion."""
    frames_per_video: int = 30
    """Middles of this many equal segments of a video are kept; training and tests draw from them."""
    audio: bool = False
    """Whether the 128 sound features of the same second follow the 1024 of the picture."""
    val_share: float = 0.15
    """Share of the training shards' videos that validate, drawn by the hash of their ids."""

    def __post_init__(self) -> None:
        if self.videos_per_subcategory < 1 or self.frames_per_video < 1:
            raise ConfigError("data.videos_per_subcategory and data.frames_per_video must be 1 or more")
        if not 0 < self.val_share < 1:
            raise ConfigError(f"data.val_share must lie between 0 and 1, got {self.val_share}")


@dataclass(frozen=True)
class FeaturesConfig:
    """Everything such a run depends on beside the data."""

    kind: str = KIND
    name: str = KIND
    notes: str = ""
    """Markdown that the card repeats."""
    seed: int = 0
    num_frames: int = 16
    """T of evaluation."""
    num_threads: int = 2
    """CPU threads for torch."""
    num_bootstraps: int = 2000
    """Draws of each interval."""
    data: FeaturesDataConfig = field(default_factory=FeaturesDataConfig)
    head: HeadTrainConfig = field(default_factory=HeadTrainConfig)

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise ConfigError(f"kind must be {KIND!r}, got {self.kind!r}")
        if self.num_frames < 1 or self.num_threads < 1 or self.num_bootstraps < 1:
            raise ConfigError("num_frames, num_threads and num_bootstraps must be 1 or more")


def config_kind(path: Path) -> str:
    """The ``kind`` a configuration declares; "" if none, or if it cannot be read (its own reader then says why)."""
    try:
        return str(_read(path).get("kind", ""))
    except ConfigError:
        return ""


def load_features_config(path: Path, overrides: Sequence[str] = ()) -> FeaturesConfig:
    """Read a TOML file and apply ``a.b=value`` overrides.

    Raises:
        ConfigError: if the file is missing, is not TOML, or a key or a value does not fit.
    """
    raw = _read(path)
    for override in overrides:
        apply_override(raw, override)
    return build(FeaturesConfig, raw)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no configuration {path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no text
        raise ConfigError(f"{path} is not TOML: {error}") from error
