"""One command to a process tree that never outlives us, and to its end without remains."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ServingError
from . import processes

_GUARD = Path(__file__).with_name("guard.py")
_SHARED_MEMORY = Path("/dev/shm")
_POLL_S = 0.05
_KILL_S = 10.0
_UNLOAD_S = 0.5  # for the last bytes to leave; unloading, which follows, serves nobody and may never finish
_ALL_ANSWERED = b"All models are stopped, unloading models"  # tritonserver's words after the last answer


class ProcessTree:
    """tritonserver and its stubs, behind a guard (see ``guard.py``)."""

    def __init__(self, log_file: Path, grace_s: float, owned: Sequence[Path], unload_s: float = _UNLOAD_S) -> None:
        """Describe the tree; ``launch`` makes it.

        Args:
            log_file: where the tree's output is appended.
            grace_s: how long answers in flight may take at the end.
            owned: folders to delete if this process dies without calling ``close``.
            unload_s: how long the rest may take, for who has something to write down at its end.
        """
        self.log_file = log_file
        self.shm_prefix = f"reelkind_{os.getpid()}_{secrets.token_hex(4)}_"
        self._grace_s, self._unload_s = grace_s, unload_s
        self._owned = [str(folder) for folder in owned]
        self._guard: subprocess.Popen[bytes] | None = None
        self._launching = threading.Lock()
        self._closed = False
        self._log_offset = 0

    def launch(self, command: Sequence[str], variables: dict[str, str], owned: Sequence[Path] = ()) -> None:
        """Start the command.

        Args:
            command: with its arguments.
            variables: its environment.
            owned: more files and folders to delete if this process dies without calling ``close``.

        Raises:
            ServingError: if the tree has been closed.
        """
        job = {
            "parent": os.getpid(),
            "grace_s": self._grace_s,
            "shm_prefix": self.shm_prefix,
            "owned": [*self._owned, *map(str, owned)],
            "command": list(command),
        }
        with self._launching:
            if self._closed:
                raise ServingError("the server is being stopped")
            try:
                log = self.log_file.open("ab")
            except OSError as error:
                raise ServingError(f"cannot write the log {self.log_file}: {error.strerror}") from error
            with log:
                self._log_offset = log.tell()
                self._guard = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_GUARD), json.dumps(job)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=variables,
                    start_new_session=True,
                )

    def exit_status(self) -> int | None:
        """Exit status of tritonserver, 128 + signal if one killed it; None while it runs or before it started."""
        return None if self._guard is None else self._guard.poll()

    def is_running(self) -> bool:
        """Whether tritonserver's process is there; it may still be unable to answer."""
        return self._guard is not None and self._guard.poll() is None

    def is_halted(self) -> bool:
        """Whether tritonserver itself, the guard's child, is stopped by a signal or a debugger."""
        guard = self._guard
        return guard is not None and any(
            process.parent == guard.pid and process.stopped for process in processes.session(guard.pid)
        )

    def stubs(self) -> list[processes.Stub]:
        """Processes of the Python models."""
        return [] if self._guard is None else processes.stubs(self._guard.pid)

    def process_ids(self) -> list[int]:
        """All living processes of the tree, the guard among them."""
        return [] if self._guard is None else [process.pid for process in processes.session(self._guard.pid)]

    def close_regions(self) -> None:
        """Leave the shared memory of the Python models to its owner alone; Triton makes it readable for everybody."""
        for region in _SHARED_MEMORY.glob(self.shm_prefix + "*"):
            with suppress(FileNotFoundError):
                region.chmod(0o600)

    def log(self) -> bytes:
        """What has been logged since the last launch; nothing if there was none."""
        if self._guard is None:
            return b""
        with self.log_file.open("rb") as log:
            log.seek(self._log_offset)
            return log.read()

    def terminate(self, graceful: bool) -> None:
        """End all processes, if ``graceful`` after the answers in flight, and free their shared memory."""
        guard = self._guard
        if guard is None:
            return
        if guard.poll() is None:
            guard.send_signal(signal.SIGTERM)
            self._await_answers(guard, time.monotonic() + (self._grace_s if graceful else 0.0))
            if guard.poll() is None:
                guard.send_signal(signal.SIGINT)  # the second one kills; another SIGTERM would merge with a pending one
            try:
                guard.wait(timeout=_KILL_S)
            except subprocess.TimeoutExpired:
                guard.kill()
                guard.wait()
        for process in processes.session(guard.pid):  # only if the guard itself was killed
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        for region in _SHARED_MEMORY.glob(self.shm_prefix + "*"):
            region.unlink(missing_ok=True)

    def close(self) -> None:
        """End all processes after the answers in flight; nothing can be launched any more."""
        with self._launching:
            self._closed = True
        self.terminate(graceful=True)

    def _await_answers(self, guard: subprocess.Popen[bytes], deadline: float) -> None:
        answered = False
        while guard.poll() is None and time.monotonic() < deadline:
            if not answered and _ALL_ANSWERED in self.log():
                answered, deadline = True, min(deadline, time.monotonic() + self._unload_s)
            time.sleep(_POLL_S)
