"""Records of YouTube-8M's shape made up from a seed: synthetic, no video stands behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelkind.core.taxonomy.classes import CLASSES, Subcategory, label_rules, subcategories
from reelkind.datasets.yt8m.records import AUDIO_DIM, RGB_DIM, FrameRecord

_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def labels_of(subcategory: Subcategory) -> tuple[int, ...]:
    """Vocabulary indices that fit this subcategory and nothing else."""
    required = sorted(label_rules()[subcategory.name].require_any)[:1]
    return (subcategory.entities[0].index, *required)


def made_id(number: int) -> str:
    """The number as 4 letters and digits."""
    digits = ""
    for _ in range(4):
        number, digit = divmod(number, len(_CHARACTERS))
        digits = _CHARACTERS[digit] + digits
    return digits


def made_record(number: int, labels: Sequence[int], *, num_frames: int = 5, direction: int = 0) -> FrameRecord:
    """A frame record; ``direction`` says which of 16 interleaved groups of features stands out."""
    rng = np.random.default_rng(number)
    rgb = rng.integers(90, 166, (num_frames, RGB_DIM), dtype=np.uint8)
    rgb[:, direction::16] += 40
    audio = rng.integers(0, 256, (num_frames, AUDIO_DIM), dtype=np.uint8)
    return FrameRecord(made_id(number), tuple(labels), rgb, audio)


def made_shard(start: int, copies: int, *, num_frames: int = 5) -> list[FrameRecord]:
    """``copies`` videos of every subcategory; each class has a group of features that stands out."""
    return [
        made_record(
            start + i * len(subcategories()) + place,
            labels_of(subcategory),
            num_frames=num_frames,
            direction=CLASSES.index(subcategory.class_name),
        )
        for i in range(copies)
        for place, subcategory in enumerate(subcategories())
    ]
