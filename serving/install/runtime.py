"""This machine to a tritonserver that can be started: a container's own, or the embedded one."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..errors import ServingError
from .environment import Say, ServerEnvironment, prepare_server_env

_EXECUTABLE = "tritonserver"
_STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Runtime:
    """A tritonserver and what it can execute.

    Attributes:
        executable: the binary.
        backends: names of its backends, e.g. ``("onnxruntime", "python", "tensorrt")``.
        installed_backends: its backend directory, or None where one is made for each run.
        environment: the embedded server's environment; None in a container.
    """

    executable: Path
    backends: tuple[str, ...]
    installed_backends: Path | None = None
    environment: ServerEnvironment | None = None

    @property
    def embedded(self) -> bool:
        """Whether it came out of a wheel: CPU only, Python backend only."""
        return self.environment is not None

    @property
    def cache_directory(self) -> Path:
        """Where its response caches lie."""
        folder = self.environment.tritonserver_folder if self.environment else self.executable.resolve().parent.parent
        return folder / "caches"

    def choose_flavour(self, wanted: str = "auto") -> str:
        """The flavour of model repository to build for this server.

        Args:
            wanted: ``python``, ``onnxruntime``, ``tensorrt`` or ``auto``: ONNX Runtime's backend where there is one.

        Raises:
            ServingError: if this tritonserver lacks the backend that the wanted flavour needs.
        """
        if wanted == "auto":
            return "onnxruntime" if "onnxruntime" in self.backends else "python"
        if wanted not in self.backends:
            raise ServingError(
                f"flavour {wanted} needs tritonserver's {wanted} backend, "
                f"{self.executable} has: {', '.join(self.backends) or 'none'}"
            )
        return wanted

    def backend_directory(self, scratch: Path) -> Path:
        """The directory for ``--backend-directory``; the embedded server's is put together in ``scratch``."""
        if self.environment is None:
            assert self.installed_backends is not None
            return self.installed_backends
        triton = self.environment.tritonserver_folder
        folder = scratch / "backends" / "python"
        folder.mkdir(parents=True, exist_ok=True)
        parts = [path for path in (triton / "backends" / "python").iterdir() if path.is_file()]
        for part in [*parts, triton / "python_backend_stubs" / self.environment.python_version / _STUB]:
            link = folder / part.name
            link.unlink(missing_ok=True)
            link.symlink_to(part)
        return folder.parent

    def variables(self) -> dict[str, str]:
        """Environment variables for the server's processes."""
        # ORT: ONNX Runtime, whoever loads it, would report to its maker.
        variables = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "ORT_DISABLE_TELEMETRY": "1"}
        if self.environment is not None:
            # Stubs run isolated: the first python3 on PATH decides which packages models see.
            paths = {"PATH": self.environment.folder / "bin", "LD_LIBRARY_PATH": self.environment.library_folder}
            for name, first in paths.items():
                variables[name] = os.pathsep.join(filter(None, [str(first), os.environ.get(name)]))
            variables.pop("PYTHONHOME", None)
        return variables


def find_runtime(progress: Say | None = None) -> Runtime:
    """The tritonserver on PATH (a Triton container), else the embedded one, which is prepared if need be.

    Raises:
        ServingError: if there is neither and the embedded one cannot be prepared here.
    """
    executable = shutil.which(_EXECUTABLE)
    if executable:
        return installed_runtime(Path(executable))
    return embedded_runtime(prepare_server_env(progress))


def installed_runtime(executable: Path) -> Runtime:
    """A tritonserver installed as NVIDIA's images do: ``<prefix>/bin/tritonserver``, ``<prefix>/backends/<name>``.

    Raises:
        ServingError: if no backends lie beside it.
    """
    folder = executable.resolve().parent.parent / "backends"
    if not folder.is_dir():
        raise ServingError(f"{executable} has no backends: {folder} is missing")
    backends = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return Runtime(executable, tuple(backends), installed_backends=folder)


def embedded_runtime(environment: ServerEnvironment) -> Runtime:
    """The tritonserver inside the nvidia-pytriton wheel.

    Raises:
        ServingError: if the wheel is incomplete or lacks a stub for the environment's Python.
    """
    triton = environment.tritonserver_folder
    executable = triton / "bin" / _EXECUTABLE
    if not executable.is_file():
        raise ServingError(f"{environment.folder} has no tritonserver: nvidia-pytriton is missing or damaged there")
    stubs = triton / "python_backend_stubs"
    if not (stubs / environment.python_version / _STUB).is_file():
        known = sorted((entry.name for entry in stubs.iterdir()), key=lambda name: [int(n) for n in name.split(".")])
        raise ServingError(
            f"tritonserver has no Python stub for Python {environment.python_version} (it has: {', '.join(known)})"
        )
    if not os.access(executable, os.X_OK):
        raise ServingError(f"{executable} is not executable")
    return Runtime(executable, ("python",), environment=environment)
