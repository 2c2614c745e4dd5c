"""A training killed at any step and started again ends where an undisturbed one does."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reelkind.cli.main import main
from reelkind.core import bundle as bundles
from reelkind.training.optimisation.checkpointing import Checkpoint

from .tiny import SETTINGS, overrides, write_data

SHORT = {
    **SETTINGS,
    "checkpoint_steps": 2,
    "backbone": {"name": "mobilenet_v2", "weights": "", "frame_size_px": 32, "frozen_blocks": 18},
    "finetune": {"steps": 9, "batch_size": 4, "num_soups": 2},
    "head": {"width": 16, "num_layers": 2, "num_frames": 2, "steps": 12, "batch_size": 4},
    "evaluation": {"num_folds": 0, "num_bootstraps": 5},
}

# ``reelkind train`` that is killed, as by kill -9, at a step of a stage.
DYING = """
import os, signal, sys, torch
from reelkind.cli.main import main
from reelkind.training.optimisation import optimise

stage, last_step, *arguments = sys.argv[1:]
take_step = optimise._Training.take_step

def die_at_last(self, step, *rest):
    if (self.stage, step) == (stage, int(last_step)):
        os.kill(os.getpid(), signal.SIGKILL)
    take_step(self, step, *rest)

optimise._Training.take_step = die_at_last
torch.manual_seed(5)
sys.exit(main(arguments))
"""


def curve(out: Path) -> list[dict[str, Any]]:
    """Lines of the log without what the clock says."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_killed_run_ends_with_the_same_weights_and_curve(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "any.toml").write_text("seed = 3\n")
    data = write_data(tmp_path / "data")
    start = ["train", str(tmp_path / "any.toml"), "--data", str(data), *overrides(SHORT)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    torch.manual_seed(5)  # of the backbone's random weights
    assert main([*start, "--out", str(whole), "--cache", str(tmp_path / "cache_whole")]) == 0

    again = [*start, "--out", str(broken), "--cache", str(tmp_path / "cache")]
    for stage, steps in (("finetune", 9), ("head", 12)):
        died = subprocess.run([sys.executable, "-c", DYING, stage, str(random.randrange(2, steps)), *again])
        assert died.returncode == -signal.SIGKILL
        assert list((tmp_path / "cache").glob("*_state.pt"))

    torch.manual_seed(5)
    caplog.set_level("INFO")
    assert main(again) == 0
    assert "head goes on at step" in caplog.text
    assert curve(broken) == curve(whole)
    first, second = bundles.load(whole), bundles.load(broken)
    assert bundles.weights_hash(first) == bundles.weights_hash(second)
    assert second.provenance["run"]["resumed"] is True
    assert [path.suffix for path in sorted((tmp_path / "cache").iterdir()) if "state" in path.name] == []

    caplog.clear()
    torch.manual_seed(5)
    assert main([*again, "--fresh", "--overwrite"]) == 0
    assert "before" not in caplog.text
    assert bundles.weights_hash(bundles.load(broken)) == bundles.weights_hash(first)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint, rng = Checkpoint(tmp_path / "state.pt", every=1), np.random.default_rng(0)
    checkpoint.save({"step": 3}, rng)
    drawn = rng.random(), torch.rand(1).item(), random.random()
    state = checkpoint.load(rng)
    assert state is not None
    assert state["step"] == 3
    assert (rng.random(), torch.rand(1).item(), random.random()) == drawn
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-40])
    assert checkpoint.load(rng) is None
    assert "is damaged and passed over" in caplog.text
