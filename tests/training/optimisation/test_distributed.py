"""Two gloo processes under torchrun end with each other's weights, and nearly those of one process."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reelkind.core import bundle as bundles
from reelkind.core.errors import ConfigError
from reelkind.training.optimisation.devices import resolve_device

from ..tiny import SETTINGS, overrides, write_data
from . import two_processes


def torchrun(logs: Path, *command: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*launcher, "--log-dir", str(logs), *command], capture_output=True, text=True, timeout=600)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    for folder in ("two", "one"):
        (tmp_path / folder).mkdir()
    done = torchrun(tmp_path, two_processes.__file__, str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    two_processes.train(tmp_path / "one")
    first, second, alone = (torch.load(tmp_path / name) for name in ("two/0.pt", "two/1.pt", "one/0.pt"))
    for part in ("classifier", "head"):
        for name, tensor in alone[part].items():
            assert torch.equal(first[part][name], second[part][name]), name
            torch.testing.assert_close(first[part][name], tensor, rtol=1e-3, atol=2e-4, msg=name)


def test_the_command_runs_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "any.toml").write_text("seed = 1\n")
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    quick = {**SETTINGS, "evaluation": {"num_folds": 0, "num_bootstraps": 5}, "checkpoint_steps": 1}
    places = ["--data", str(data), "--out", str(out), "--cache", str(tmp_path / "cache")]
    done = torchrun(
        tmp_path, "-m", "reelkind.cli.main", "train", str(tmp_path / "any.toml"), *places, *overrides(quick)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("peak memory") == 1  # one process talks
    bundle = bundles.load(out)
    assert bundle.provenance["run"]["num_processes"] == 2
    assert bundle.metrics["val"]["num_clips"] == 4


def test_a_device_that_is_not_there_is_refused() -> None:
    assert resolve_device("cpu").type == "cpu"
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match="device is 'cuda', process 0 finds 0 CUDA devices; device = cpu works"):
        resolve_device("cuda")
