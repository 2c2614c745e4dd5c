"""Processes to what they took over time: memory of their own, and CPU time."""

from __future__ import annotations

import os
import re
import resource
import statistics
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from reelkind.serving.process import processes

INTERVAL_S = 0.5
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_NAMES = (  # of what is found in a command line, the first that fits
    (r"ray::\w*MapWorker", "actor"),
    (r"ray::(\w+)", r"ray::\1"),
    (r"raylet/raylet", "raylet"),
    (r"gcs_server", "gcs_server"),
    (r"triton_python_backend_stub \S+/(\w+)/\d+/model", r"model \1"),
    (r"tritonserver", "tritonserver"),
    (r"worker_main", "decoder"),
    (r"reelkind.* bulk ", "driver"),
)


@dataclass
class Trace:
    """One process.

    Attributes:
        name: what it does.
        moments_s: since watching began.
        memory_mib: anonymous memory then: what it asked for, without files and shared memory.
        cpu_s: the last CPU time that was seen.
        cpu_before_s: the first.
    """

    name: str
    cpu_before_s: float
    cpu_s: float = 0.0
    moments_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)


class Watch:
    """Looks at these processes and all that descend from them twice a second, in a thread, within a ``with`` block.

    Attributes:
        traces: by process id.
    """

    def __init__(self, roots: Collection[int]) -> None:
        self.traces: dict[int, Trace] = {}
        self._roots, self._began = set(roots), time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._look(is_first=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def add(self, root: int) -> None:
        """Look at one more."""
        self._roots = self._roots | {root}

    def cpu_s(self) -> float:
        """CPU time of all since watching began."""
        return sum(trace.cpu_s - trace.cpu_before_s for trace in self.traces.values())

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self, *, is_first: bool = False) -> None:
        moment = round(time.monotonic() - self._began, 1)
        for pid in _with_descendants(self._roots):
            found = _read(pid)
            if found is None:
                continue
            name, memory_mib, cpu_s = found
            trace = self.traces.setdefault(pid, Trace(name, cpu_s if is_first else 0.0))
            trace.name, trace.cpu_s = name, cpu_s  # Ray's workers get their names late
            trace.moments_s.append(moment)
            trace.memory_mib.append(memory_mib)


def growth(trace: Trace) -> dict[str, float] | None:
    """MiB at a quarter of a process's time, its middle and its end, medians of ten looks; None if it lived briefly."""
    looks = len(trace.memory_mib)
    if looks * INTERVAL_S < 30:
        return None
    return {
        name: round(statistics.median(trace.memory_mib[max(0, at - 10) : at]), 1)
        for name, at in (("quarter", looks // 4), ("middle", looks // 2), ("end", looks))
    }


def cpu_s(pids: Collection[int]) -> float:
    """CPU time that these processes, this one and its children that have ended have taken so far."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own + sum(found[2] for pid in pids if (found := _read(pid)) is not None)


def find(name: str, roots: Collection[int]) -> list[int]:
    """Ids of processes that do what a trace's name says, among these and all that descend from them."""
    return [pid for pid in sorted(_with_descendants(roots)) if (found := _read(pid)) is not None and found[0] == name]


def _with_descendants(roots: Collection[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        process = processes.read(int(folder.name))
        if process is not None and process.alive:
            children.setdefault(process.parent, []).append(process.pid)
    found, waiting = set(roots), list(roots)
    while waiting:
        new = [pid for pid in children.get(waiting.pop(), ()) if pid not in found]
        found |= set(new)
        waiting += new
    return found


def _read(pid: int) -> tuple[str, float, float] | None:
    """Name, MiB, CPU seconds; None if there is no such process any more."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = Path(f"/proc/{pid}/status").read_text()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    memory = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    if memory is None:  # a zombie
        return None
    fits = ((re.search(pattern, command), name) for pattern, name in _NAMES)
    name = next((match.expand(name) for match, name in fits if match), "other")
    return name, round(int(memory[1]) / 1024, 1), (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND
