"""Pins to the server's own environment: a virtual environment with NumPy < 2, ONNX Runtime and tritonserver.

It lies apart from the client's environment because tritonserver's Python backend cannot work with NumPy 2. It is
made once for each set of pins and Python version, at ``$REELKIND_SERVER_ENV`` or below ``$XDG_CACHE_HOME``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from reelkind.core.files.user_cache import user_cache
from reelkind.core.files.whole_files import write_json

from ..errors import ServingError

REQUIREMENTS = Path(__file__).with_name("server-constraints.txt")
ENV_VARIABLE = "REELKIND_SERVER_ENV"
SUPPORTED_PYTHONS = ("3.12", "3.11", "3.10")  # have both a stub in nvidia-pytriton 0.7.0 and a wheel of numpy 1.26
NEEDED_BYTES = 400 << 20  # it takes 326 MiB; pip unpacks beside it
GLIBC_REQUIRED = (2, 35)  # the wheel's manylinux tag

_FINISHED = "reelkind-server.json"  # written last: an environment without it is half made
_STARTED = "reelkind-server.lock"  # written first: marks the folder as ours to delete

_PROBE = """
import json, os, sys, sysconfig
from importlib.metadata import version
packages = ("numpy", "onnxruntime", "nvidia-pytriton")
name = sysconfig.get_config_var("INSTSONAME") or ""
folders = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
print(json.dumps({
    "python_version": "%d.%d" % sys.version_info[:2],
    "library_folder": next((folder for folder in folders if os.path.exists(os.path.join(folder, name))), folders[0]),
    "library_name": name,
    "packages_folder": sysconfig.get_path("purelib"),
    "versions": {name: version(name) for name in packages},
}))
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ServerEnvironment:
    """A finished environment.

    Attributes:
        folder: the virtual environment.
        python_version: e.g. ``"3.11"``; chooses the stub.
        library_folder: where its Python's shared library lies; stubs link against it.
        packages_folder: its site-packages.
        pins: ``pins_hash()`` it was made for; empty for an environment made by someone else.
    """

    folder: Path
    python_version: str
    library_folder: Path
    packages_folder: Path
    pins: str = ""

    @property
    def tritonserver_folder(self) -> Path:
        """``tritonserver/`` of the nvidia-pytriton wheel: bin, backends, stubs."""
        return self.packages_folder / "pytriton" / "tritonserver"


def pins_hash(python_version: str) -> str:
    """Twelve hex digits over the pins and the Python version; other pins are another environment."""
    pins = [line.strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines()]
    kept = [line for line in pins if line and not line.startswith("#")]
    return hashlib.sha256("\n".join([python_version, *kept]).encode()).hexdigest()[:12]


def server_env_folder(python_version: str) -> Path:
    """Where the environment is, or would be made."""
    chosen = os.environ.get(ENV_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return user_cache(f"server-{pins_hash(python_version)}")


def find_server_env() -> ServerEnvironment | None:
    """The finished environment, or None. Touches no network and writes nothing.

    Raises:
        ServingError: if ``$REELKIND_SERVER_ENV`` names a folder that is something else.
    """
    python_version, _ = _choose_python()
    folder = server_env_folder(python_version)
    finished = folder / _FINISHED
    if finished.is_file() and (folder / "bin" / "python").exists():
        stored = json.loads(finished.read_text(encoding="utf-8"))
        stored.update(folder=folder, **{key: Path(stored[key]) for key in ("library_folder", "packages_folder")})
        environment = ServerEnvironment(**stored)
        return environment if environment.pins == pins_hash(python_version) else None
    if folder.exists() and not (folder / _STARTED).exists() and any(folder.iterdir()):
        return _adopt(folder)
    return None


def prepare_server_env(progress: Say | None = None) -> ServerEnvironment:
    """Make the environment unless it is there; a second call downloads nothing.

    Args:
        progress: called with one line at each step.

    Raises:
        ServingError: if this machine cannot run tritonserver or the packages cannot be had.
    """
    check_platform()
    found = find_server_env()
    if found is not None:
        return found
    python_version, python = _choose_python()
    folder = server_env_folder(python_version)
    with _only_one(folder):
        found = find_server_env()  # somebody else may have made it while we waited
        if found is None:
            found = _make(folder, python, progress or (lambda line: None))
        return found


def check_platform() -> None:
    """Refuse machines that no tritonserver wheel is made for.

    Raises:
        ServingError: naming this machine and what is needed.
    """
    system, machine = platform.system(), platform.machine()
    way_out = "run the server in a Triton container or on another machine, and this one as its client"
    if system != "Linux" or machine not in ("x86_64", "AMD64"):
        raise ServingError(f"the embedded tritonserver needs Linux on x86-64, this is {system} on {machine}: {way_out}")
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < GLIBC_REQUIRED:
        needed = ".".join(map(str, GLIBC_REQUIRED))
        raise ServingError(
            f"the embedded tritonserver needs glibc {needed} (Debian 12, Ubuntu 22.04), "
            f"this is {f'{name} {version}'.strip() or 'another C library'}: {way_out}"
        )


def _choose_python() -> tuple[str, str]:
    """Version and executable of this Python if it will do, or of another one on PATH."""
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    if mine in SUPPORTED_PYTHONS:
        return mine, sys.executable
    for version in SUPPORTED_PYTHONS:
        executable = shutil.which(f"python{version}")
        if executable and _run([executable, "-c", "import venv"]).returncode == 0:
            return version, executable
    raise ServingError(
        f"the embedded tritonserver has no Python backend for Python {mine}: "
        f"put a python{SUPPORTED_PYTHONS[0]} (or {', '.join(SUPPORTED_PYTHONS[1:])}) on PATH"
    )


def _make(folder: Path, python: str, progress: Say) -> ServerEnvironment:
    if folder.exists() and (folder / _STARTED).exists():
        shutil.rmtree(folder)  # left behind by an interrupted call
    progress(f"making the server's environment in {folder} (once; downloads about 100 MB)")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _STARTED).touch()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ServingError(f"cannot write {folder}: {error.strerror}; set {ENV_VARIABLE} to another folder") from error
    if free < NEEDED_BYTES:
        raise ServingError(
            f"{folder} has {free >> 20} MiB left on its disk, the server's environment takes {NEEDED_BYTES >> 20}: "
            f"make room, or set {ENV_VARIABLE} to another folder"
        )
    made = _run([python, "-m", "venv", str(folder)])
    if made.returncode:
        raise ServingError(
            f"{python} cannot make virtual environments: install its venv module "
            f"(Debian and Ubuntu: apt install python3-venv), then try again"
        )
    pins = [line for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    progress(f"installing {', '.join(dict.fromkeys(line.partition('==')[0] for line in pins))}")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps", "--only-binary", ":all:"]
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2", "--timeout", "20"]
    installed = _run([*pip, *quiet, "-r", str(REQUIREMENTS)])
    if installed.returncode:
        raise ServingError(_pip_failure(installed.stdout))
    environment = _adopt(folder, pins_hash(_choose_python()[0]))
    stored = {key: str(value) for key, value in asdict(environment).items() if key != "folder"}
    write_json(folder / _FINISHED, stored)
    progress("the server's environment is ready")
    return environment


def _adopt(folder: Path, pins: str = "") -> ServerEnvironment:
    """Look into an environment and make sure that it can serve."""
    python = folder / "bin" / "python"
    probed = _run([str(python), "-I", "-c", _PROBE]) if python.exists() else None
    if probed is None or probed.returncode:
        raise ServingError(
            f"{folder} is no server environment (no Python with numpy, onnxruntime and nvidia-pytriton): "
            f"empty it, or set {ENV_VARIABLE} to another folder"
        )
    facts = json.loads(probed.stdout.splitlines()[-1])
    if int(facts["versions"]["numpy"].split(".")[0]) >= 2:
        raise ServingError(f"{folder} has numpy {facts['versions']['numpy']}, the server needs numpy < 2")
    library_folder, name = Path(facts["library_folder"]), facts["library_name"]
    environment = ServerEnvironment(
        folder, facts["python_version"], library_folder, Path(facts["packages_folder"]), pins
    )
    load = f"import ctypes; ctypes.CDLL({name!r})"
    variables = {**os.environ, "LD_LIBRARY_PATH": str(library_folder)}
    if not name.startswith("libpython") or ".so" not in name or _run([str(python), "-c", load], variables).returncode:
        version = environment.python_version
        raise ServingError(
            f"Python {version} behind {folder} has no shared library, which the Python backend needs: "
            f"install libpython{version}, or use a Python built with --enable-shared"
        )
    return environment


def _pip_failure(output: str) -> str:
    offline = ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "Max retries", "Network is unreachable")
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
    if any(sign in output for sign in offline):
        return "the server's packages cannot be downloaded: no package index is reachable; try again when online"
    return f"the server's packages cannot be installed: {errors[0] if errors else 'pip failed without a reason'}"


def _run(command: list[str], variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=variables
    )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock beside the folder; two calls at a time make one environment."""
    import fcntl  # not on Windows, which has been refused by now

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("w")
    except OSError as error:
        raise ServingError(
            f"cannot write {folder.parent}: {error.strerror}; set {ENV_VARIABLE} to another folder"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
