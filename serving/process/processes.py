"""A server's process tree, read from /proc: who is in a session, and who of them still lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

_PROC = Path("/proc")
_STUB = "triton_python_backend_stub"
_HALTED = frozenset("Tt")
_GONE = frozenset("ZX")  # a zombie keeps its pid but never answers again


@dataclass(frozen=True)
class Process:
    """One process.

    Attributes:
        pid: its id.
        parent: its parent's id.
        session: the session it belongs to; all descendants of a session's leader share it.
        state: the letter of /proc/PID/stat, ``Z`` for a zombie.
        start_ticks: when it started; with the pid it names a process for good.
    """

    pid: int
    parent: int
    session: int
    state: str
    start_ticks: int

    @property
    def stopped(self) -> bool:
        """Whether it was halted, by a signal or a debugger, when it was read."""
        return self.state in _HALTED

    @property
    def alive(self) -> bool:
        """Whether it was neither dead nor a zombie when it was read."""
        return self.state not in _GONE


@dataclass(frozen=True)
class Stub:
    """The process of a Python-backend model's instance."""

    process: Process
    model: str
    version: str = "1"


def read(pid: int) -> Process | None:
    """A process as it is now, or None if there is no such process."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the command in parentheses may hold spaces
    return Process(pid, int(fields[1]), int(fields[3]), fields[0], int(fields[19]))


def is_alive(process: Process) -> bool:
    """Whether this very process still runs; a reused pid is another process."""
    now = read(process.pid)
    return now is not None and now.start_ticks == process.start_ticks and now.alive


def session(leader: int) -> list[Process]:
    """Living processes of the session that ``leader`` opened, the leader included."""
    pids = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    found = [read(pid) for pid in pids]
    return [process for process in found if process is not None and process.session == leader and process.alive]


def stubs(leader: int) -> list[Stub]:
    """Stub processes in the session that ``leader`` opened, with the models they run."""
    found = []
    for process in session(leader):
        try:
            command = (_PROC / str(process.pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if PurePath(command[0]).name == _STUB and any(command[1:2]):  # that of a dying process may be cut off
            version = PurePath(command[1]).parent  # <model>/<version>/model.py
            found.append(Stub(process, version.parent.name, version.name))
    return found
