"""A TOML file and ``--set a.b=value`` overrides to frozen dataclasses; unknown keys fail."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class DataConfig:
    """Which manifests are read."""

    sources: tuple[str, ...] = ("clips", "clips_more", "recorded", "stills")
    """Folders under the data folder, each with a ``manifest.csv``."""
    optional: bool = False
    """Whether a missing folder is passed over instead of refused."""


@dataclass(frozen=True)
class BackboneConfig:
    """The CNN and what it starts from."""

    name: str = "mobilenet_v2_levels"
    weights: str = "hub"
    """``hub`` for torchvision's download, else a file; relative paths are looked up from the data folder."""
    origin: str = ""
    """Source and licence of ``weights``, for the card."""
    frame_size_px: int = 224
    frozen_blocks: int = 14
    """Leading blocks of ``features`` that stay as they are; their output is computed once and cached."""


@dataclass(frozen=True)
class AugmentConfig:
    """How many damaged copies of the training set are made."""

    num_variants: int = 4
    frames_per_clip: int = 4
    """Frames of a clip in each variant."""
    clean_frames_per_clip: int = 8
    """Frames of a clip in the undamaged variant."""
    source_size_px: int = 320
    """Side of the decoded square that crops are taken from."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Training of the backbone's later blocks on single frames."""

    steps: int = 400
    """Optimizer steps; 0 keeps the backbone as it was."""
    batch_size: int = 64
    """Frames in a step."""
    learning_rate: float = 3e-4
    classifier_rate: float = 2.0
    """Learning rate of the new classifier, as a multiple of ``learning_rate``."""
    pull: float = 1.0
    """Share of the learning rate by which weights go back to where they started, each step (L2-SP)."""
    mixup: float = 0.4
    """Parameter of the Beta distribution; 0 turns mixing off."""
    mixup_probability: float = 0.5
    label_smoothing: float = 0.1
    focal_gamma: float = 0.0
    dropout: float = 0.3
    ema_decay: float = 0.99
    warmup_steps: int = 30
    max_gradient_norm: float = 1.0
    bfloat16: bool = True
    """Train in BF16 autocast: three times as fast on CPUs that have AMX."""
    blend: float = 0.75
    """Share of the trained weights in the result, the rest being those at the start (arXiv:2109.01903)."""
    num_soups: int = 1
    """Runs with different seeds whose weights are averaged."""


@dataclass(frozen=True)
class HeadTrainConfig:
    """Shape of the temporal head and its training on cached features."""

    width: int = 128
    num_layers: int = 4
    num_attention_heads: int = 4
    dropout: float = 0.3
    num_frames: int = 8
    """T of the training sequences; the head itself takes any."""
    num_variants: int = 2
    """Damaged copies it learns from, beside the undamaged one."""
    steps: int = 500
    batch_size: int = 64
    """Clips in a step."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    focal_gamma: float = 0.0
    feature_noise: float = 0.1
    """Standard deviation of the noise added to standardised features."""
    mixup: float = 0.4
    ema_decay: float = 0.98
    warmup_steps: int = 30
    max_gradient_norm: float = 1.0


@dataclass(frozen=True)
class SamplingConfig:
    """How often a sample is drawn: classes equally, works by the root of their size."""

    clip_weight: float = 3.0
    """How much oftener a clip is drawn than a still."""
    work_exponent: float = 0.5
    """A work with n samples counts as n ** (1 - exponent)."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Cross-validation by work, calibration and intervals."""

    num_folds: int = 3
    """0 or 1 skips cross-validation; the temperature is then 1."""
    num_bootstraps: int = 2000


@dataclass(frozen=True)
class Config:
    """Everything a training run depends on beside the data."""

    name: str = "lite"
    notes: str = ""
    """Markdown that the card repeats: what was tried, limits."""
    seed: int = 0
    num_frames: int = 16
    """T of evaluation and serving."""
    num_threads: int = 2
    """CPU threads for torch."""
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    head: HeadTrainConfig = field(default_factory=HeadTrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.finetune.batch_size < 2 or self.head.batch_size < 2:
            raise ConfigError("batches need at least 2 samples (finetune.batch_size, head.batch_size)")
        if self.augment.num_variants < 1:
            raise ConfigError(f"augment.num_variants must be 1 or more, got {self.augment.num_variants}")
        if self.num_frames < 1 or self.head.num_frames < 1:
            raise ConfigError("num_frames and head.num_frames must be 1 or more")


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and apply ``a.b=value`` overrides, values written as in TOML (bare words are strings).

    Raises:
        ConfigError: if the file is missing, is not TOML, or a key or a value does not fit.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    for override in overrides:
        _apply(raw, override)
    return parse_config(raw)


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Nested tables to a `Config`.

    Raises:
        ConfigError: if a key is unknown or a value has the wrong type.
    """
    return _build(Config, raw, "")


def _apply(raw: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r} is not of the form a.b=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table = raw
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {override!r}: {parent} is not a table")
    table[last] = value


def _build(schema: type[T], raw: Mapping[str, Any], prefix: str) -> T:
    types = typing.get_type_hints(schema)
    known = [entry.name for entry in dataclasses.fields(schema)]  # type: ignore[arg-type]
    values = {}
    for key, value in raw.items():
        if key not in known:
            raise ConfigError(f"unknown key {prefix}{key} (known: {', '.join(known)})")
        values[key] = _convert(types[key], value, prefix + key)
    return schema(**values)


def _convert(wanted: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(wanted):
        if not isinstance(value, dict):
            raise ConfigError(f"{key} must be a table, got {value!r}")
        return _build(typing.cast(type, wanted), value, f"{key}.")
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{key} must be a list of strings, got {value!r}")
        return tuple(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ConfigError(f"{key} must be {wanted.__name__}, got {value!r}")
    return value
