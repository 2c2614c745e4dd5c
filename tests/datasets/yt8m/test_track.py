"""The features-only track on synthetic records: what is measured here is the machinery, not YouTube-8M."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from reelkind.core.bundle import BundleError, HeadInfo, load
from reelkind.core.errors import ConfigError, DataError, LeakError
from reelkind.core.taxonomy.classes import CLASSES, subcategories
from reelkind.datasets.yt8m.errors import RecordError
from reelkind.datasets.yt8m.records import dequantise
from reelkind.models.head import TemporalHead
from reelkind.training.features_only.feature_sets import read_feature_sets
from reelkind.training.features_only.track import run
from reelkind.training.features_only.track_config import (
    FeaturesConfig,
    FeaturesDataConfig,
    config_kind,
    load_features_config,
)

from .made_records import made_record, made_shard, write_frame_records

NUM = len(subcategories())
CONFIG = Path(__file__).parents[3] / "training" / "configs" / "yt8m_features.toml"
SMALL = [
    "num_frames=4",
    "num_threads=1",
    "num_bootstraps=100",
    "data.frames_per_video=6",
    "data.val_share=0.3",
    "head.width=32",
    "head.num_layers=1",
    "head.num_frames=3",
    "head.steps=60",
    "head.batch_size=32",
    "head.warmup_steps=5",
    "head.learning_rate=3e-3",
    "head.ema_decay=0.9",
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_frame_records(folder / "train00.tfrecord", made_shard(0, 3, num_frames=8))
    write_frame_records(folder / "train01.tfrecord", made_shard(1000, 2, num_frames=2))
    write_frame_records(folder / "validate00.tfrecord", made_shard(2000, 2, num_frames=8))
    return folder


def test_a_head_learns_separable_features_and_says_what_it_is(shards: Path, tmp_path: Path) -> None:
    description = run(load_features_config(CONFIG, SMALL), shards, tmp_path / "out")
    for split in ("val", "test"):
        metrics = description["metrics"][split]
        assert metrics["accuracy"] > 0.9
        low, high = metrics["interval_95"]["accuracy"]
        assert low <= metrics["accuracy"] <= high
        assert 0 <= metrics["subcategory_accuracy"] <= 1
    assert description["metrics"]["test"]["num_videos"] == 2 * NUM
    assert len(description["metrics"]["test"]["subcategories"]) == NUM
    assert description == json.loads((tmp_path / "out" / "features.json").read_text())
    card = (tmp_path / "out" / "README.md").read_text()
    assert "features only: cannot classify video files by itself, needs YouTube-8M's own Inception features" in card
    assert "test: YouTube-8M's validation partition" in card
    assert f"{description['metrics']['test']['accuracy']:.3f}" in card
    with pytest.raises(BundleError, match=r"bundle\.json is missing"):
        load(tmp_path / "out")


def test_the_stored_head_answers_as_measured(shards: Path, tmp_path: Path) -> None:
    description = run(load_features_config(CONFIG, SMALL), shards, tmp_path)
    head = TemporalHead(HeadInfo(**description["head"])).eval()
    head.load_state_dict({name: tensor.float() for name, tensor in load_file(tmp_path / "head.safetensors").items()})
    videos = made_shard(2000, 2, num_frames=8)
    right = 0
    for i, video in enumerate(videos):
        with torch.no_grad():
            logits = head(torch.from_numpy(dequantise(video.rgb[[1, 3, 4, 6]])[None]))[0]
        right += CLASSES[int(logits.argmax())] == subcategories()[i % NUM].class_name
    assert right / len(videos) > 0.9


def test_the_same_run_gives_the_same_weights(shards: Path, tmp_path: Path) -> None:
    config = load_features_config(CONFIG, [*SMALL, "head.steps=5"])
    first, again = (run(config, shards, tmp_path / name) for name in "ab")
    assert first == again
    assert (tmp_path / "a" / "head.safetensors").read_bytes() == (tmp_path / "b" / "head.safetensors").read_bytes()


def test_splits_follow_shard_names_and_ids(shards: Path) -> None:
    sets = read_feature_sets(shards, FeaturesDataConfig(val_share=0.3), seed=0)
    ids = {split: {video.id for video in videos.videos} for split, videos in sets.items()}
    assert ids["test"] == {record.id for record in made_shard(2000, 2)}
    assert not ids["train"] & ids["val"]
    assert ids["train"] | ids["val"] <= {
        record.id for start, n in ((0, 3), (1000, 2)) for record in made_shard(start, n)
    }
    assert 0.15 < len(ids["val"]) / (5 * NUM) < 0.45
    other = read_feature_sets(shards, FeaturesDataConfig(val_share=0.3), seed=1)
    assert {video.id for video in other["val"].videos} != ids["val"]


def test_frames_are_the_middles_of_equal_segments_and_features_are_dequantised(tmp_path: Path) -> None:
    records = made_shard(0, 8, num_frames=9)
    write_frame_records(tmp_path / "train.tfrecord", records)
    sets = read_feature_sets(tmp_path, FeaturesDataConfig(frames_per_video=3, audio=True, val_share=0.4), seed=0)
    video = sets["train"].videos[0]
    (record,) = (record for record in records if record.id == video.id)
    expected = np.concatenate([record.rgb, record.audio], axis=1)[[1, 4, 7]]
    np.testing.assert_array_equal(video.quantised, expected)
    np.testing.assert_array_equal(video.features, dequantise(expected))


def test_a_subcategory_gives_no_more_than_its_share(shards: Path) -> None:
    sets = read_feature_sets(shards, FeaturesDataConfig(videos_per_subcategory=1, val_share=0.4), seed=0)
    for videos in sets.values():
        assert np.bincount(videos.subcategory_labels, minlength=NUM).max() == 1


def test_shards_without_a_class_are_refused(tmp_path: Path) -> None:
    write_frame_records(tmp_path / "train.tfrecord", [made_record(i, (67,)) for i in range(20)])
    with pytest.raises(DataError, match=r"no train videos of animation, gaming, flat among the shards"):
        read_feature_sets(tmp_path, FeaturesDataConfig(), seed=0)


def test_a_video_in_both_partitions_is_a_leak(tmp_path: Path) -> None:
    for name in ("train.tfrecord", "validate.tfrecord"):
        write_frame_records(tmp_path / name, made_shard(0, 8))
    with pytest.raises(LeakError, match=r"both in validate\* shards and in others"):
        read_feature_sets(tmp_path, FeaturesDataConfig(val_share=0.4), seed=0)


def test_a_damaged_shard_stops_the_run_by_name(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "train.tfrecord").write_bytes((shards / "train00.tfrecord").read_bytes()[:-1])
    with pytest.raises(RecordError, match=r"train\.tfrecord: ends inside"):
        run(FeaturesConfig(), tmp_path, tmp_path / "out")


def test_a_bundle_is_not_mixed_with(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(DataError, match="holds a bundle"):
        run(FeaturesConfig(), shards, tmp_path)


def test_the_shipped_configuration_is_of_its_kind() -> None:
    assert config_kind(CONFIG) == "yt8m_features"
    assert config_kind(CONFIG.with_name("lite.toml")) == ""
    assert config_kind(CONFIG.with_name("missing.toml")) == ""
    assert load_features_config(CONFIG).head.subcategory_weight > 0


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("finetune.steps=3", "unknown key finetune"),
        ("data.val_share=1.5", "val_share must lie between 0 and 1"),
        ("data.frames_per_video=0", "must be 1 or more"),
        ("num_frames=0", "must be 1 or more"),
        ("kind=clips", "kind must be 'yt8m_features'"),
    ],
)
def test_senseless_settings_are_refused(override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_features_config(CONFIG, [override])
