"""Frame-level shards to labelled sequences of features for training, validation and test, in bounded memory."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from reelkind.core.errors import DataError, LeakError
from reelkind.core.taxonomy.classes import CLASSES, subcategories
from reelkind.core.timing.clips import segment_middles
from reelkind.datasets.yt8m.labelling import Refusal, subcategory_of
from reelkind.datasets.yt8m.records import FrameRecord, dequantise, parse_frames, parse_id
from reelkind.datasets.yt8m.sampling import BottomK, seeded_hash
from reelkind.datasets.yt8m.selection import find_shards
from reelkind.datasets.yt8m.tfrecord import read_records

from .track_config import FeaturesDataConfig

logger = logging.getLogger(__name__)

MAX_FRAMES = 300  # the dataset's own limit (research.google.com/youtube8m)
TEST_PREFIX = "validate"  # shards of YouTube-8M's validation partition; the labels of its test partition are secret
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class LabelledSequence:
    """One video.

    Attributes:
        id: YouTube-8M's.
        subcategory: its place in the taxonomy, 0 .. 45.
        quantised: uint8 [F, D], in order of time.
    """

    id: str
    subcategory: int
    quantised: np.ndarray

    @property
    def label(self) -> int:
        """Index in ``CLASSES``."""
        return CLASSES.index(subcategories()[self.subcategory].class_name)

    @property
    def features(self) -> np.ndarray:
        """float32 [F, D]."""
        return dequantise(self.quantised)


@dataclass(frozen=True)
class FeatureSet:
    """The videos of one split."""

    videos: Sequence[LabelledSequence]

    @property
    def labels(self) -> np.ndarray:
        """int64 [N], indices in ``CLASSES``."""
        return np.array([video.label for video in self.videos], np.int64)

    @property
    def subcategory_labels(self) -> np.ndarray:
        """int64 [N], places in the taxonomy."""
        return np.array([video.subcategory for video in self.videos], np.int64)

    @property
    def subcategory_names(self) -> list[str]:
        """N names."""
        return [subcategories()[video.subcategory].name for video in self.videos]

    def digest(self) -> str:
        """SHA-256 over ids and features."""
        digest = hashlib.sha256()
        for video in self.videos:
            digest.update(video.id.encode() + video.quantised.tobytes())
        return digest.hexdigest()


def read_feature_sets(data: Path, config: FeaturesDataConfig, seed: int) -> dict[str, FeatureSet]:
    """The labelled videos of all shards in a folder, split by the name of the shard and the hash of the id.

    Args:
        data: folder of frame-level shards, to any depth.
        config: how many videos and frames.
        seed: of the choice where there are more videos than wanted, and of the split.

    Returns:
        "train", "val" and, empty if there is no ``validate*`` shard, "test".

    Raises:
        RecordError: if a shard is damaged.
        DataError: if there is no shard, or a class has no video to train or to validate on.
        LeakError: if a video is in shards of both partitions.
    """
    num_train = config.videos_per_subcategory
    num_val = math.ceil(num_train * config.val_share / (1 - config.val_share))
    sizes = {"train": num_train, "val": num_val, "test": num_train}
    samples = {
        (split, place): BottomK[LabelledSequence](sizes[split], seed)
        for split in SPLITS
        for place in range(len(subcategories()))
    }
    place_of = {subcategory.name: place for place, subcategory in enumerate(subcategories())}
    for shard in tqdm(find_shards([data]), desc="shards", unit="shard", disable=None):
        for record in read_records(shard):
            known = parse_id(shard, record)
            verdict = subcategory_of(known.labels)
            if isinstance(verdict, Refusal):
                continue
            place = place_of[verdict.name]
            sample = samples[_split_of(shard, known.id, config.val_share, seed), place]
            if sample.would_keep(known.id):
                frames = _kept_frames(parse_frames(shard, record), config)
                if len(frames):
                    sample.offer(known.id, LabelledSequence(known.id, place, frames))
    sets = {
        split: FeatureSet([video for place in range(len(subcategories())) for video in samples[split, place].items()])
        for split in SPLITS
    }
    _require_all_classes(sets)
    _refuse_leaks(sets)
    return sets


def _split_of(shard: Path, video_id: str, val_share: float, seed: int) -> str:
    if shard.name.startswith(TEST_PREFIX):
        return "test"
    return "val" if seeded_hash(f"split:{video_id}", seed) < val_share * 2**64 else "train"


def _kept_frames(record: FrameRecord, config: FeaturesDataConfig) -> np.ndarray:
    """uint8 [F, 1024], or [F, 1152] with sound; F is at most ``frames_per_video``."""
    frames = record.rgb[:MAX_FRAMES]
    if config.audio:
        length = min(len(frames), len(record.audio))
        frames = np.concatenate([frames[:length], record.audio[:length]], axis=1)
    if len(frames) > config.frames_per_video:
        frames = frames[segment_middles(0, len(frames), config.frames_per_video)]
    return frames.copy()  # not a view that keeps the whole record alive


def _require_all_classes(sets: dict[str, FeatureSet]) -> None:
    for split in ("train", "val"):
        counts = Counter(CLASSES[label] for label in sets[split].labels)
        missing = [name for name in CLASSES if not counts[name]]
        if missing:
            raise DataError(
                f"no {split} videos of {', '.join(missing)} among the shards (found: {dict(counts) or 'none'}); "
                "add shards of the training partition"
            )


def _refuse_leaks(sets: dict[str, FeatureSet]) -> None:
    tested = {video.id for video in sets["test"].videos}
    leaked = sorted(video.id for split in ("train", "val") for video in sets[split].videos if video.id in tested)
    if leaked:
        raise LeakError(f"videos both in {TEST_PREFIX}* shards and in others: {', '.join(leaked[:5])}")
