"""Seeds and frames of a recipe, on the smallest data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from reelkind.benchmarks.accuracy import seeds
from reelkind.core.errors import ConfigError
from reelkind.training.config import parse_config
from tests.training.tiny import SETTINGS, write_data

FROZEN = {**SETTINGS, "finetune": {"steps": 0, "precision": "float32"}}


def test_fewer_frames_are_the_middle_ones_of_equal_parts() -> None:
    frames = np.arange(4)[:, None]
    assert [seeds.fewer(frames, count).ravel().tolist() for count in (1, 2, 4, 8)] == [
        [2],
        [1, 3],
        [0, 1, 2, 3],
        [0, 1, 2, 3],
    ]


def test_every_seed_answers_for_every_clip(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    report = seeds.measure(parse_config(FROZEN), data, tmp_path / "cache", seeds=(0, 1), frame_counts=(1, 2))
    counted = {(row["seed"], row["on"], row["model"], row["frames"]): row["num_clips"] for row in report["rows"]}
    held_out = {(seed, "held out", "head", count): 8 for seed in (0, 1) for count in (1, 2)}
    validation = {(seed, "val", "head", count): 4 for seed in (0, 1) for count in (1, 2)}
    assert counted == held_out | validation | {(seed, "held out", seeds.REGRESSION, None): 8 for seed in (0, 1)}
    for row in report["rows"]:
        assert row["accuracy"] == round(row["num_right"] / row["num_clips"], 4)
    assert all(row["num_seeds"] == 2 and row["accuracy"][1] <= row["accuracy"][2] for row in report["summary"])
    # Four plain colours: a regression on their features cannot miss them, if folds and labels go together.
    assert {row["accuracy"] for row in report["rows"] if row["model"] == seeds.REGRESSION} == {1.0}


def test_a_backbone_that_is_trained_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.steps = 2"):
        seeds.measure(parse_config(SETTINGS), tmp_path, tmp_path, seeds=(0,), frame_counts=(1,))
