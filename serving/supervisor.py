"""A server that crashes or hangs to one that answers again.

A Python model whose process died is never started again by tritonserver, and is called ready all the same. So the
processes are watched, and ensembles that have had no traffic are asked for an answer now and then: as many of them as
it takes to reach every model.

    process of a model gone          → unload and load that model; its ensembles come back with it
    ... but another took its place,
    or its version was unloaded      → somebody loads another version: nothing to do
    that failed twice, server gone   → start the whole server again on the same ports
    too many restarts in a minute    → give up with a reason
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from . import processes
from .control import BusyError, CanaryError, Control, ModelMissingError, StubUnhealthyError
from .errors import ServingError
from .models import covering

logger = logging.getLogger(__name__)

TICK_S = 0.2
CANARY_INTERVAL_S = 5.0
CANARY_TIMEOUT_S = 15.0
CANARY_FRAMES = 1  # enough to pass every model, cheap enough to do for ever
MAX_RESTARTS = 3
RESTART_WINDOW_S = 60.0
_RELOAD_ATTEMPTS = 2
_STRIKES = 2  # a process that was starved for a second is called unhealthy, too


class Supervised(Protocol):
    """What the supervisor needs of a server."""

    configs: dict[str, Any]

    @property
    def control(self) -> Control:
        """Calls to the server."""
        ...

    def is_running(self) -> bool:
        """Whether the server's process is there."""
        ...

    def why_it_ended(self) -> str:
        """One line."""
        ...

    def stubs(self) -> list[processes.Stub]:
        """Processes of the Python models."""
        ...

    def restart(self) -> None:
        """Start again on the same ports."""
        ...


class Supervisor:
    """Watches one server in a thread of its own; logs one line for every event."""

    def __init__(self, server: Supervised) -> None:
        self._server = server
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._failure = ""
        self._stubs: list[processes.Stub] = []
        self._restarts: list[float] = []
        self._answers: dict[str, int] = {}
        self._strikes: dict[str, int] = {}
        self._next_canary = 0.0
        self._turn = 0

    def start(self) -> None:
        """Watch from now on."""
        self._thread = threading.Thread(target=self._watch, name="reelkind-supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns at once."""
        self._stopping.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    def wait(self, timeout_s: float | None = None) -> None:
        """Block until watching ends, or ``timeout_s`` has passed.

        Raises:
            ServingError: with the reason, if the supervisor gave up.
        """
        if self._ended.wait(timeout_s) and self._failure:
            raise ServingError(self._failure)

    def _watch(self) -> None:
        try:
            self._look_around()
            while not self._stopping.wait(TICK_S):
                self._check()
        except ServingError as error:
            if not self._stopping.is_set():
                self._failure = str(error)
                logger.error("%s", error)
        except Exception as error:
            if not self._stopping.is_set():
                self._failure = f"the supervisor failed: {type(error).__name__}: {error}"
                logger.exception("the supervisor failed")
        finally:
            self._ended.set()

    def _check(self) -> None:
        if not self._server.is_running():
            self._restart(self._server.why_it_ended())
            return
        dead = [stub for stub in self._stubs if not processes.is_alive(stub.process)]
        if dead:
            self._bury(dead)
        elif time.monotonic() >= self._next_canary:
            self._ask_next()

    def _bury(self, dead: Sequence[processes.Stub]) -> None:
        """Bring back models whose process died; one that was replaced or unloaded on purpose is forgotten."""
        concerned = {(stub.model, stub.version) for stub in dead}
        missed = {model for model, version in concerned if self._lacks(model, version)}
        self._stubs = [stub for stub in self._stubs if stub not in dead]
        self._notice_new()
        if missed:
            self._bring_back(missed, "its process died")

    def _lacks(self, model: str, version: str) -> bool:
        """Whether a version that is loaded, before and after they are counted, has fewer processes than it should."""
        control = self._server.control
        try:
            if version not in control.versions(model):
                return False
            living = sum((stub.model, stub.version) == (model, version) for stub in self._server.stubs())
            return living < control.num_instances(model) and version in control.versions(model)
        except CanaryError:  # it does not say: bringing back will show
            return True

    def _notice_new(self) -> None:
        """Watch processes that somebody's loading of another version has brought."""
        known = {stub.process.pid for stub in self._stubs}
        self._stubs += [stub for stub in self._server.stubs() if stub.process.pid not in known]

    def _ask_next(self) -> None:
        """One canary inference, to the ensembles in turn, unless traffic has shown that this one answers."""
        names = covering(self._server.configs)
        name = names[self._turn % len(names)]
        answers = self._server.control.num_answers(name)
        try:
            if answers <= self._answers.get(name, answers):
                config = self._server.configs[name]
                self._server.control.canary(config, CANARY_TIMEOUT_S, CANARY_FRAMES)
                answers += 1
            self._answers[name] = answers
            self._strikes.pop(name, None)
            self._notice_new()
            self._turn += 1
            self._next_canary = time.monotonic() + CANARY_INTERVAL_S
        except CanaryError as error:
            self._next_canary = time.monotonic() + 1.0
            if not self._stopping.is_set() and self._server.is_running():
                self._judge(name, error)

    def _judge(self, name: str, error: CanaryError) -> None:
        if isinstance(error, BusyError) and self._server.control.num_answers(name) > self._answers.get(name, 0):
            return  # it works, only not for us
        self._strikes[name] = self._strikes.get(name, 0) + 1
        if self._strikes[name] < _STRIKES:
            return
        if isinstance(error, StubUnhealthyError):
            self._bring_back({error.model}, "its process hangs")
        elif isinstance(error, ModelMissingError):
            self._bring_back(set(), f"{name} is not loaded")
        else:
            self._restart(f"{name} does not answer: {error}")

    def _bring_back(self, models: Iterable[str], reason: str) -> None:
        """Load models again and make sure that all ensembles answer; else restart everything."""
        started = time.monotonic()
        what = ", ".join(sorted(models)) or "ensembles"
        logger.warning("%s: %s; loading again", what, reason)
        error: CanaryError | None = None
        for _ in range(_RELOAD_ATTEMPTS):
            try:
                self._reload(models)
                self._look_around()
                logger.warning("%s: answers again after %.1f s", what, time.monotonic() - started)
                return
            except CanaryError as failure:
                error = failure
                if self._stopping.is_set() or not self._server.is_running():
                    return
        self._restart(f"{what} cannot be brought back: {error}")

    def _reload(self, models: Iterable[str]) -> None:
        control = self._server.control
        for stub in self._server.stubs():
            if stub.model in models:  # hangs: unloading would wait for it for ever
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(stub.process.pid, signal.SIGKILL)
        for model in models:
            control.reload(model)
        for name in self._server.configs:
            if not control.is_ready(name):
                control.load(name)
        for name in covering(self._server.configs):
            control.canary(self._server.configs[name], CANARY_TIMEOUT_S, CANARY_FRAMES)

    def _restart(self, reason: str) -> None:
        """Start the whole server again.

        Raises:
            ServingError: if it was done too often in the last minute.
        """
        while not self._stopping.is_set():
            now = time.monotonic()
            self._restarts = [moment for moment in self._restarts if now - moment < RESTART_WINDOW_S]
            if len(self._restarts) >= MAX_RESTARTS:
                raise ServingError(
                    f"gave up after {MAX_RESTARTS} restarts within {RESTART_WINDOW_S:.0f} s; last reason: {reason}"
                )
            self._restarts.append(now)
            logger.warning("%s; restarting the server", reason)
            try:
                self._server.restart()
            except ServingError as error:
                reason = str(error)
                continue
            self._look_around()
            logger.warning("the server answers again after %.1f s", time.monotonic() - now)
            return

    def _look_around(self) -> None:
        self._stubs = []
        self._notice_new()
        self._answers, self._strikes = {}, {}
        self._next_canary = time.monotonic() + CANARY_INTERVAL_S
