"""What a run was made of: code, configuration, data, libraries, machine, time and memory."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from reelkind.datasets.sample import Sample

from .config import Config
from .optimisation import distributed

LIBRARIES = ("reelkind", "torch", "torchvision", "numpy", "av", "pillow")
UNKNOWN = "unknown"
ROOT = Path(__file__).parents[1]


def resolved_config(config: Config) -> dict[str, Any]:
    """The configuration as a bundle stores it: without notes, which the card has, and without this machine's paths."""
    settings = asdict(config)
    del settings["notes"]
    settings["backbone"]["weights"] = Path(config.backbone.weights).name
    return settings


def describe_run(
    config: Config, samples: Sequence[Sample], device: torch.device, seconds: Mapping[str, float], resumed: bool
) -> dict[str, Any]:
    """Everything that could explain a difference between two runs.

    Args:
        config: the resolved configuration.
        samples: all that was trained or measured on.
        device: where it trained.
        seconds: wall time of each stage.
        resumed: whether an earlier run's checkpoints or results were used.
    """
    return {
        "config_sha256": hashlib.sha256(json.dumps(resolved_config(config), sort_keys=True).encode()).hexdigest(),
        "data_sha256": data_hash(samples),
        "seed": config.seed,
        **_code_revision(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "device": _device_name(device),
        "num_processes": distributed.world_size(),
        "num_threads": torch.get_num_threads(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "resumed": resumed,
        **_peak_memory(device),
    }


def data_hash(samples: Sequence[Sample]) -> str:
    """SHA-256 over contents, labels, works and splits; no matter in what order, or where the files lie."""
    rows = sorted([s.content_hash, str(s.label), s.subcategory, s.work, s.split, str(s.near_val)] for s in samples)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _code_revision() -> dict[str, Any]:
    if not (ROOT / ".git").exists():
        return {"git_revision": UNKNOWN, "git_dirty": UNKNOWN}
    revision, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {"git_revision": revision or UNKNOWN, "git_dirty": UNKNOWN if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"CPU, {names[0] if names else platform.machine()}"


def _peak_memory(device: torch.device) -> dict[str, int]:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20}
    if device.type == "cuda":
        peak["peak_cuda_memory_mib"] = torch.cuda.max_memory_allocated(device) // 2**20
    return peak
