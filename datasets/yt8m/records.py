"""Payloads of YouTube-8M to typed records.

Frame level: a SequenceExample with ``id``, ``labels`` and, once a second, 1024 bytes of Inception features of the
picture (``rgb``) and 128 of the sound (``audio``). Video level: an Example with the means over the video. The set of
2019 adds labels that people gave to stretches of 5 seconds. Source: research.google.com/youtube8m/download.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from .errors import RecordError
from .messages import new_example, new_sequence_example
from .tfrecord import Record, read_records

RGB_DIM = 1024
AUDIO_DIM = 128

T = TypeVar("T")


@dataclass(frozen=True)
class LabelledId:
    """What both levels share.

    Attributes:
        id: YouTube-8M's own, 4 characters; not YouTube's.
        labels: indices into the vocabulary; none in the test partition.
    """

    id: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """A stretch of a video rated by people: does it show what ``label`` (a vocabulary index) names?"""

    start_s: int
    end_s: int
    label: int
    score: float


@dataclass(frozen=True)
class FrameRecord(LabelledId):
    """One video at frame level.

    Attributes:
        rgb: uint8 [F, 1024], one row a second, quantised; see `dequantise`.
        audio: uint8 [F, 128], likewise; [0, 128] if the record has none.
        segments: only in the set of 2019.
    """

    rgb: np.ndarray
    audio: np.ndarray
    segments: tuple[Segment, ...] = ()


def dequantise(quantised: np.ndarray) -> np.ndarray:
    """Features float32 in [-2, 2] of uint8 ones, same shape: the middle of each of 256 steps (google/youtube-8m)."""
    return quantised.astype(np.float32) * np.float32(4 / 255) + np.float32(4 / 512 - 2)


def read_frame_records(path: Path) -> Iterator[FrameRecord]:
    """The videos of a frame-level shard, one in memory at a time.

    Raises:
        RecordError: if the file is damaged or holds something else.
    """
    return (parse_frames(path, record) for record in read_records(path))


def read_labels(path: Path) -> Iterator[LabelledId]:
    """Ids and labels of a shard of either level, without its features.

    Raises:
        RecordError: if the file is damaged or holds something else.
    """
    return (parse_id(path, record) for record in read_records(path))


def parse_id(path: Path, record: Record) -> LabelledId:
    """Id and labels of one record of either level, which came from ``path``.

    Raises:
        RecordError: if it is something else.
    """
    return _parsed(path, record, _context)


def parse_frames(path: Path, record: Record) -> FrameRecord:
    """One record of a frame-level shard, which came from ``path``.

    Raises:
        RecordError: if it is something else.
    """
    return _parsed(path, record, _frame_record)


def _parsed(path: Path, record: Record, parse: Callable[[bytes], T]) -> T:
    try:
        return parse(record.payload)
    except (DecodeError, ValueError) as error:
        raise RecordError(f"{path}: the record at byte {record.offset} is not YouTube-8M's: {error}") from error


def _parse(message: Any, payload: bytes) -> Any:
    message.ParseFromString(payload)
    return message


def _context(payload: bytes) -> LabelledId:
    """An Example's features and a SequenceExample's context have the same place on the wire."""
    return _labelled_id(_parse(new_example(), payload).features.feature)


def _labelled_id(features: Any) -> LabelledId:
    ids = list(features["id"].bytes_list.value) if "id" in features else []
    if len(ids) != 1:
        raise ValueError(f"it has no 'id' (found: {', '.join(sorted(features)) or 'nothing'})")
    return LabelledId(ids[0].decode("ascii"), _integers(features, "labels"))


def _frame_record(payload: bytes) -> FrameRecord:
    message = _parse(new_sequence_example(), payload)
    context, lists = message.context.feature, message.feature_lists.feature_list
    shared = _labelled_id(context)
    if "rgb" not in lists:
        raise ValueError(f"video {shared.id} has no 'rgb' frames; is this a video-level file?")
    return FrameRecord(
        id=shared.id,
        labels=shared.labels,
        rgb=_rows(lists["rgb"], RGB_DIM, "rgb"),
        audio=_rows(lists["audio"], AUDIO_DIM, "audio") if "audio" in lists else np.empty((0, AUDIO_DIM), np.uint8),
        segments=_segments(context),
    )


def _rows(feature_list: Any, size: int, name: str) -> np.ndarray:
    rows = [b"".join(feature.bytes_list.value) for feature in feature_list.feature]
    for second, row in enumerate(rows):
        if len(row) != size:
            raise ValueError(f"second {second} of {name} has {len(row)} bytes, not {size}")
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), size)


def _segments(context: Any) -> tuple[Segment, ...]:
    starts, ends, labels = (_integers(context, f"segment_{name}") for name in ("start_times", "end_times", "labels"))
    scores = tuple(context["segment_scores"].float_list.value) if "segment_scores" in context else ()
    if not len(starts) == len(ends) == len(labels) == len(scores):
        raise ValueError("its segments have starts, ends, labels and scores of different number")
    return tuple(Segment(*values) for values in zip(starts, ends, labels, scores, strict=True))


def _integers(features: Any, name: str) -> tuple[int, ...]:
    return tuple(features[name].int64_list.value) if name in features else ()
