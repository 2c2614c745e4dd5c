"""Records of YouTube-8M's shape made up from a seed: synthetic, no video stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.core.taxonomy.classes import CLASSES, Subcategory, label_rules, subcategories
from reelkind.datasets.yt8m.messages import new_example, new_sequence_example
from reelkind.datasets.yt8m.records import AUDIO_DIM, RGB_DIM, FrameRecord, LabelledId
from reelkind.datasets.yt8m.tfrecord import write_records

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


def write_frame_records(path: Path, records: Iterable[FrameRecord]) -> int:
    """Write a frame-level shard (gzip if it ends in ``.gz``) and return the number of videos."""
    return write_records(path, map(_frame_payload, records))


def write_video_records(path: Path, records: Iterable[LabelledId]) -> int:
    """Write a video-level shard, whose features are zeros, and return the number of videos."""
    return write_records(path, map(_video_payload, records))


def _frame_payload(record: FrameRecord) -> bytes:
    message = new_sequence_example()
    context, lists = message.context.feature, message.feature_lists.feature_list
    _put_shared(context, record)
    for name, rows in (("rgb", record.rgb), ("audio", record.audio)):
        for row in rows:
            lists[name].feature.add().bytes_list.value.append(row.tobytes())
    if record.segments:
        context["segment_start_times"].int64_list.value.extend(segment.start_s for segment in record.segments)
        context["segment_end_times"].int64_list.value.extend(segment.end_s for segment in record.segments)
        context["segment_labels"].int64_list.value.extend(segment.label for segment in record.segments)
        context["segment_scores"].float_list.value.extend(segment.score for segment in record.segments)
    payload: bytes = message.SerializeToString(deterministic=True)
    return payload


def _video_payload(record: LabelledId) -> bytes:
    message = new_example()
    features = message.features.feature
    _put_shared(features, record)
    for name, size in (("mean_rgb", RGB_DIM), ("mean_audio", AUDIO_DIM)):
        features[name].float_list.value.extend([0.0] * size)
    payload: bytes = message.SerializeToString(deterministic=True)
    return payload


def _put_shared(features: Any, record: LabelledId) -> None:
    features["id"].bytes_list.value.append(record.id.encode("ascii"))
    features["labels"].int64_list.value.extend(record.labels)
