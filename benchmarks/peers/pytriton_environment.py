"""An environment for pytriton, whose pins (NumPy below 2) do not go with ours: made once, in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from reelkind.core.errors import ReelkindError
from reelkind.core.files.user_cache import user_cache
from reelkind.serving.install.environment import prepare_server_env

REQUIREMENTS = ("nvidia-pytriton==0.7.0", "numpy==1.26.4", "onnxruntime==1.32.0")
_FINISHED = "finished"  # written last: a folder without it is half made


class PytritonError(ReelkindError):
    """The environment cannot be made; the message says why."""


def python() -> Path:
    """The environment's Python; made on the first call, which downloads about 100 MB.

    Raises:
        PytritonError: if the packages cannot be had.
        ServingError: if this machine has no Python that pytriton knows.
    """
    name = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:12]
    folder = user_cache(f"pytriton-{name}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _FINISHED).exists():
            shutil.rmtree(folder, ignore_errors=True)
            known = prepare_server_env().folder / "bin" / "python"  # of a version that pytriton has a stub for
            _run([str(known), "-m", "venv", str(folder)])
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            _run([*pip, "--no-input", "--retries", "2", "--timeout", "20", *REQUIREMENTS])
            (folder / _FINISHED).touch()
    return folder / "bin" / "python"


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        errors = [line.removeprefix("ERROR: ") for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1] if errors else f"status {done.returncode}"
        raise PytritonError(f"an environment with {', '.join(REQUIREMENTS)} cannot be made: {reason}")
