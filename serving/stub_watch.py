"""The processes of a server's Python models to the models that lack one.

tritonserver neither starts a dead one again nor says that it is gone. A version that is being loaded or unloaded has
fewer or more of them for a second or two: only one that is loaded before and after it is counted can lack any.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from .control import CanaryError, Control
from .process import processes


class Counted(Protocol):
    """What is needed of a server."""

    @property
    def control(self) -> Control:
        """Calls to the server."""
        ...

    def stubs(self) -> list[processes.Stub]:
        """Processes of the Python models."""
        ...


class StubWatch:
    """Counts one server's processes."""

    def __init__(self, server: Counted) -> None:
        self._server = server
        self._stubs: list[processes.Stub] = []
        self._stopped: set[int] = set()  # pids
        self._hung: set[int] = set()
        self._num_processes: dict[str, int] = {}  # of a version of a model; promotions leave it as it is

    @property
    def suspects(self) -> bool:
        """Whether the last look has found a process stopped, which the next one will call dead if it still is."""
        return bool(self._stopped)

    def take(self) -> None:
        """Know those that live now, and no others."""
        self._stubs = self._server.stubs()

    def missed(self) -> set[str]:
        """Models that lack a process because a known one died; quick to tell that none did.

        Those that were replaced or unloaded on purpose are forgotten.
        """
        dead = [stub for stub in self._stubs if not processes.is_alive(stub.process)]
        if not dead:
            return set()
        concerned = {(stub.model, stub.version) for stub in dead}
        missed = {model for model, version in concerned if self._lacks(model, version)}
        self.take()
        return missed

    def lacking(self) -> set[str]:
        """Models that lack a process, whether anybody knew it or not: some die young, some while others end.

        One that is stopped at two looks in a row counts as dead: while its fellows answer, requests rarely find it.
        """
        self.take()
        stopped = {stub.process.pid for stub in self._stubs if stub.process.stopped}
        self._stopped, self._hung = stopped, stopped & self._stopped
        living = Counter((stub.model, stub.version) for stub in self._stubs if stub.process.pid not in self._hung)
        try:
            return {
                model
                for model, version in self._server.control.loaded()
                if living[model, version] < self._wanted(model) and self._lacks(model, version)
            }
        except CanaryError:  # it does not say: asking for answers will show
            return set()

    def _wanted(self, model: str) -> int:
        if model not in self._num_processes:
            self._num_processes[model] = self._server.control.num_processes(model)
        return self._num_processes[model]

    def _lacks(self, model: str, version: str) -> bool:
        control = self._server.control
        try:
            if version not in control.versions(model):
                return False
            stubs = [stub for stub in self._server.stubs() if stub.process.pid not in self._hung]
            living = sum((stub.model, stub.version) == (model, version) for stub in stubs)
            return living < self._wanted(model) and version in control.versions(model)
        except CanaryError:  # it does not say: the next look at all of them, or asking for answers, will show
            return False
