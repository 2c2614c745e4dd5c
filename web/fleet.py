"""Starts and watches the processes of the application: one that serves, some that work.

    fleet (this process) ─┬► gunicorn ─► web process      restarted; the socket is the fleet's and never closes
                          └► workers, each with its decoder  restarted; what they had begun is begun once more

With the embedded server, tritonserver is watched by ``serving``; the fleet only tells workers its address.
"""

from __future__ import annotations

import fcntl
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import IO

from .jobs.files import sweep
from .jobs.store import Store
from .jobs.tables import open_database
from .settings import ENVIRONMENT, Settings, SettingsError

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_RECOVER_EVERY_S = 5.0
_SWEEP_EVERY_S = 60.0
_START_S = 60.0
_STOP_S = 6.0
_LIVED_S = 10.0  # a process that lived so long was well
_MAX_PAUSE_S = 10.0
_MAX_FAILURES = 20


@dataclass
class _Child:
    """One process that is to run always."""

    command: list[str]
    is_worker: bool
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    not_before: float = 0.0


class Fleet:
    """The processes of one application.

    Args:
        settings: handed to all of them.
        listener: a listening socket, which outlives the web process.

    Raises:
        SettingsError: if another fleet uses the data folder.
    """

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings, self._listener = settings, listener
        self._lock = _lock(settings)
        self._store = Store(open_database(settings.database_url), max_attempts=settings.limits.attempts)
        module = "reelkind.web.{}".format
        self._children = [
            _Child([module("gunicorn_app"), str(listener.fileno())], is_worker=False),
            *(_Child([module("jobs.worker"), str(number)], is_worker=True) for number in range(settings.workers)),
        ]
        self._recovered = self._swept = 0.0
        if not settings.database:  # one fleet a folder: whoever was at work before is dead
            self._store.recover(everyone=True)

    def __enter__(self) -> Fleet:
        for child in self._children:
            self._start(child)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Look after all of it until an exception, such as ``KeyboardInterrupt``, ends it.

        Raises:
            SettingsError: if a process does not stay alive, whatever is done.
        """
        while True:
            self.look()
            time.sleep(_LOOK_EVERY_S)

    def wait_until_served(self) -> None:
        """Until the page answers.

        Raises:
            SettingsError: if it does not within a minute.
        """
        host, port = self._listener.getsockname()[:2]
        reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self.look()
            connection = http.client.HTTPConnection(reach, port, timeout=_LOOK_EVERY_S * 10)
            with suppress(OSError, http.client.HTTPException), closing(connection):
                connection.request("GET", "/healthz", headers={"Host": f"localhost:{port}"})
                if connection.getresponse().status == 200:
                    return
            time.sleep(_LOOK_EVERY_S)
        raise SettingsError("the web process does not answer; what it printed says why")

    def look(self) -> None:
        """Replace who has died, put back what is abandoned, remove what is too old."""
        now = time.monotonic()
        for child in self._children:
            if child.process is None:
                if now >= child.not_before:
                    self._start(child)
            elif child.process.poll() is not None:
                self._bury(child)
        if now - self._recovered > _RECOVER_EVERY_S:
            self._recovered = now
            self._store.recover()
        if now - self._swept > _SWEEP_EVERY_S:
            self._swept = now
            self.sweep()

    def sweep(self) -> None:
        """Hold everything kept to its age and size."""
        limits = self._settings.limits
        self._store.forget(limits.history_s)
        sweep(
            (self._settings.uploads, self._settings.pictures, self._settings.features),
            max_age_s=limits.keep_s,
            max_bytes=limits.keep_bytes,
            in_use=self._store.uploads_in_use(),
        )

    def stop(self) -> None:
        """End all processes, kindly at first."""
        processes = [child.process for child in self._children if child.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _kill_group(process)
        for child in self._children:
            if child.is_worker and child.process is not None:
                self._store.recover(_worker_name(child.process))
            child.process = None
        self._lock.close()

    @property
    def pids(self) -> dict[str, list[int]]:
        """Processes by what they do: ``web`` and ``worker``."""
        found: dict[str, list[int]] = {"web": [], "worker": []}
        for child in self._children:
            if child.process is not None:
                found["worker" if child.is_worker else "web"].append(child.process.pid)
        return found

    def _start(self, child: _Child) -> None:
        environment = {**os.environ, ENVIRONMENT: self._settings.to_json()}
        command = [sys.executable, "-m", *child.command]
        keep = () if child.is_worker else (self._listener.fileno(),)
        child.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, pass_fds=keep, start_new_session=True
        )
        child.started = time.monotonic()

    def _bury(self, child: _Child) -> None:
        """Clean up after a process that has ended, and say when the next one may start."""
        process = child.process
        assert process is not None
        _kill_group(process)
        if child.is_worker:
            self._store.recover(_worker_name(process))
        lived = time.monotonic() - child.started
        child.failures = 0 if lived > _LIVED_S else child.failures + 1
        if child.failures >= _MAX_FAILURES:
            raise SettingsError(f"{child.command[0]} ends again and again; what it printed says why")
        pause_s = min(_MAX_PAUSE_S, 0.25 * 2**child.failures) if child.failures > 1 else 0.0
        child.process, child.not_before = None, time.monotonic() + pause_s
        logger.warning("%s ended (%s) and is started again", child.command[0], process.returncode)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 picks a free one.

    Raises:
        SettingsError: if it cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"cannot listen on {host}:{port}: {reason}: choose another --port or --host") from None
    listener.listen(512)
    return listener


def _lock(settings: Settings) -> IO[bytes]:
    """Hold the data folder until this process ends, however it ends.

    Raises:
        SettingsError: if another one holds it.
    """
    lock = (settings.data / "lock").open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise SettingsError(f"another `reelkind web` uses {settings.data}: name another folder by --data") from None
    return lock


def _worker_name(process: subprocess.Popen[bytes]) -> str:
    return f"{os.uname().nodename}:{process.pid}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what a process has started; it led a session of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
