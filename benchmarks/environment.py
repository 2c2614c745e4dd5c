"""Where a measurement ran: processor, cores, load, versions, revision. Goes beside every figure."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    *("numpy", "onnxruntime", "tritonclient", "av", "torch", "openvino", "transformers"),
    *("opencv-python-headless", "decord", "torchcodec"),
)
_FLAGS = re.compile(r"avx2|avx512(f|_vnni|_bf16|_fp16)|avx_vnni|amx_\w+")  # that decide which kernels are taken


def describe() -> dict[str, object]:
    """The machine and the software, JSON-ready; unknown values are left out."""
    return {
        "processor": _cpuinfo("model name") or platform.processor() or "unknown",
        "processor_flags": [flag for flag in _cpuinfo("flags").split() if _FLAGS.fullmatch(flag)],
        "gpus": _gpus(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "revision": _revision(),
    }


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.partition(":")[0].strip() == key:
            return line.partition(":")[2].strip()
    return ""


def _gpus() -> list[str]:
    """Cards and their MIG slices with the driver's version, as nvidia-smi lists them, without serial numbers."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    except FileNotFoundError:
        return []
    lines = [line.partition("(UUID")[0].strip() for line in listed.stdout.splitlines()]
    return [f"{line}, driver {driver[0]}" for line in lines if line] if listed.returncode == 0 and driver else []


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str:
    """The commit, with ``-dirty`` where anything but the results of measurements differs from it."""
    commit, changes = _git("rev-parse", "--short", "HEAD"), _git("status", "--porcelain", "--", ":/", ":!results")
    return commit + ("-dirty" if changes else "") if commit else "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
