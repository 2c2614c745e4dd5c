"""A server that crashes or hangs to one that answers again.

A Python model whose process died is never started again by tritonserver, and is called ready all the same. So the
processes are watched, and ensembles that have had no traffic are asked for an answer now and then: as many of them as
it takes to reach every model.

    tritonserver stopped or silent   → start the whole server again on the same ports
    process of a model gone or hung  → unload and load that model; its ensembles come back with it
    ... but another took its place,
    or its version was unloaded      → somebody loads another version: nothing to do
    that failed twice, server gone   → start the whole server again on the same ports
    too many restarts in a minute    → give up with a reason
    a queue is full, answers are late → nothing to do as long as the models compute
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

from .control import BusyError, CanaryError, Control, ModelMissingError, StubUnhealthyError
from .errors import ServingError
from .models import covering
from .process import processes
from .stalling import Stalling
from .stub_watch import StubWatch

logger = logging.getLogger(__name__)

TICK_S = 0.2
CANARY_INTERVAL_S = 5.0
SUSPICION_INTERVAL_S = 1.0  # after a failure
CANARY_TIMEOUT_S = 15.0
CANARY_FRAMES = 1  # enough to pass every model, cheap enough to do for ever
MAX_RESTARTS = 3
STABLE_S = 20.0  # who has answered for so long was not restarted in vain
_RELOAD_ATTEMPTS = 2
_STRIKES = 2  # in a row: a process that was starved for a second is called unhealthy, too
_REPORTS, _REPORTS_WINDOW_S = 3, 30.0  # of one process, with answers of others in between


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

    def is_halted(self) -> bool:
        """Whether the server's process is there, but stopped."""
        ...

    def why_it_ended(self) -> str:
        """One line."""
        ...

    def stubs(self) -> list[processes.Stub]:
        """Processes of the Python models."""
        ...

    def close_regions(self) -> None:
        """Leave the shared memory of models, some loaded lately, to its owner alone."""
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
        self._stub_watch, self._stalling = StubWatch(server), Stalling(server)
        self._num_restarts, self._answering_since = 0, 0.0
        self._requests: dict[str, tuple[int, int]] = {}
        self._reports: dict[str, list[float]] = {}  # instance -> when it was called unhealthy
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
        missed = self._stub_watch.missed()
        if missed:
            self._bring_back(missed, "its process died")
        elif time.monotonic() >= self._next_canary:
            self._look_at_all()

    def _look_at_all(self) -> None:
        """At the processes, then by one canary at the ensembles in turn, unless traffic shows that this one answers."""
        self._server.close_regions()
        names = covering(self._server.configs)
        name = names[self._turn % len(names)]
        try:
            self._require_life()
            lacking = self._stub_watch.lacking()
            if lacking:
                self._bring_back(lacking, "its process died or hangs")
            elif self._stub_watch.suspects:  # to ask them would be to wait for them
                self._next_canary = time.monotonic() + SUSPICION_INTERVAL_S
            else:
                self._ask(name)
        except CanaryError as error:
            self._next_canary = time.monotonic() + SUSPICION_INTERVAL_S
            if not self._stopping.is_set() and self._server.is_running():
                self._judge(name, error)

    def _ask(self, name: str) -> None:
        answered, failed = self._server.control.num_requests(name)
        seen = self._requests.get(name, (answered, failed))
        if answered <= seen[0] or failed != seen[1]:
            self._server.control.canary(self._server.configs[name], CANARY_TIMEOUT_S, CANARY_FRAMES)
            answered += 1
        self._requests[name] = answered, failed
        self._strikes.pop(name, None)
        self._stalling.forget(name)
        self._turn += 1
        self._next_canary = time.monotonic() + (CANARY_INTERVAL_S if failed == seen[1] else SUSPICION_INTERVAL_S)

    def _require_life(self) -> None:
        if self._server.is_halted():
            raise CanaryError("tritonserver's process is stopped")
        if not self._server.control.is_live():  # no queue delays this: silence need not be waited for as work is
            raise CanaryError("tritonserver is silent")

    def _judge(self, name: str, error: CanaryError) -> None:
        if isinstance(error, BusyError) and not self._stalling.has_stalled(name):
            return  # it works, only not for us
        self._strikes[name] = self._strikes.get(name, 0) + 1
        hanging = isinstance(error, StubUnhealthyError) and self._is_hanging(error.instance)
        if self._strikes[name] < _STRIKES and not hanging:
            return
        if isinstance(error, StubUnhealthyError):
            self._bring_back({error.model}, "its process hangs")
        elif isinstance(error, ModelMissingError):
            self._bring_back(set(), f"{name} is not loaded")
        else:
            self._restart(f"{name} does not answer: {error}")

    def _is_hanging(self, instance: str) -> bool:
        """Whether it was called unhealthy too often, whatever other instances answered in its place."""
        now = time.monotonic()
        recent = [moment for moment in self._reports.get(instance, ()) if now - moment < _REPORTS_WINDOW_S]
        self._reports[instance] = [*recent, now]
        return len(self._reports[instance]) >= _REPORTS

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
                if isinstance(failure, StubUnhealthyError):
                    models = {*models, failure.model}  # another one hangs, too
                if self._stopping.wait(TICK_S) or not self._server.is_running():
                    return  # it was more than these models: the next look sees why
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
            with suppress(BusyError):  # others get answers; it will be asked again
                control.canary(self._server.configs[name], CANARY_TIMEOUT_S, CANARY_FRAMES)

    def _restart(self, reason: str) -> None:
        """Start the whole server again.

        Raises:
            ServingError: if it was done in vain too often, however long that took.
        """
        if time.monotonic() - self._answering_since > STABLE_S:
            self._num_restarts = 0
        while not self._stopping.is_set():
            if self._num_restarts >= MAX_RESTARTS:
                raise ServingError(f"gave up after {MAX_RESTARTS} restarts in a row; last reason: {reason}")
            self._num_restarts += 1
            started = time.monotonic()
            logger.warning("%s; restarting the server", reason)
            try:
                self._server.restart()
            except ServingError as error:
                reason = str(error)
                continue
            self._look_around()
            self._answering_since = time.monotonic()
            logger.warning("the server answers again after %.1f s", self._answering_since - started)
            return

    def _look_around(self) -> None:
        self._stub_watch.take()
        self._requests, self._strikes, self._reports = {}, {}, {}
        self._stalling.forget()
        self._next_canary = time.monotonic() + CANARY_INTERVAL_S
