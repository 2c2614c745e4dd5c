"""Where a measurement ran: processor, cores, load, versions, revision. Goes beside every figure."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

_PACKAGES = ("numpy", "onnxruntime", "tritonclient", "av", "torch")


def describe() -> dict[str, object]:
    """The machine and the software, JSON-ready; unknown values are left out."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "revision": _revision(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


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
