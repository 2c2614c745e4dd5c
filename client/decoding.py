"""A path to a decoded clip, here or in a process that may crash, hang or be killed without taking the others along.

InlineDecoder     in this process: no start-up cost, for files one trusts
ProcessDecoder    in worker processes: a file that crashes or hangs its decoder costs only itself
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from queue import LifoQueue
from types import TracebackType
from typing import Any, Protocol

from reelkind.core import reading
from reelkind.core.video import Clip, VideoError, read_clip

DECODE_TIMEOUT_S = 120.0  # an hour of 4K with one keyframe takes less on a laptop
START_TIMEOUT_S = 60.0  # a worker is ready after half a second, on a machine under load after several
_CLOSED = "not decoded: the decoder was closed"
_NOT_STARTED = "not decoded: no decoder process could be started"


@dataclass(frozen=True)
class Decoded:
    """A clip and what it took to decode it."""

    clip: Clip
    decode_ms: float


class Decoder(Protocol):
    """Turns files into clips; called from several threads at once.

    Attributes:
        num_workers: how many files it works on at the same time.
    """

    num_workers: int

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        """Decode ``num_frames`` frames of one file, scaled to ``size_px`` squared.

        Raises:
            VideoError: if the file cannot be read as video, for whatever reason.
        """
        ...

    def close(self) -> None:
        """Give up what is under way."""
        ...


class InlineDecoder:
    """Decodes in the calling thread.

    Args:
        num_threads: decoder threads a file, 0 lets FFmpeg choose.
    """

    def __init__(self, num_threads: int = 0) -> None:
        self.num_workers = usable_cpus()
        self._num_threads = num_threads

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        started = time.perf_counter()
        path = os.fspath(path)
        try:
            clip = read_clip(path, num_frames=num_frames, size_px=size_px, num_threads=self._num_threads)
        except VideoError:
            raise
        except Exception as error:
            raise reading.unforeseen(path, error) from error
        return Decoded(clip, (time.perf_counter() - started) * 1000)

    def close(self) -> None:
        """Nothing is held."""


class ProcessDecoder:
    """Decodes in worker processes, each started afresh without anything of this process.

    Each worker has a connection of its own and works on one file at a time, so that killing it, or its death,
    touches no other. As always with started processes, a script that uses this class needs
    ``if __name__ == "__main__":``.

    Args:
        num_workers: processes; by default one a CPU this process may use.
        timeout_s: a file that takes longer is given up and its worker replaced.
        num_threads: decoder threads a file; the files themselves keep the CPUs busy.
    """

    def __init__(
        self, num_workers: int | None = None, *, timeout_s: float = DECODE_TIMEOUT_S, num_threads: int = 1
    ) -> None:
        self.num_workers = usable_cpus() if num_workers is None else num_workers
        if self.num_workers < 1:
            raise ValueError(f"need at least one worker, got {num_workers}")
        self._timeout_s = timeout_s
        self._num_threads = num_threads
        self._closed = False
        self._lock = threading.Lock()
        self._workers = {_Worker() for _ in range(self.num_workers)}
        self._idle: LifoQueue[_Worker | None] = LifoQueue()  # None wakes who waits when all is over
        for worker in self._workers:
            self._idle.put(worker)

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        worker = self._idle.get()
        try:
            if worker is None or not worker.lives():
                worker = self._replace(worker, path)
            wanted = {"num_frames": num_frames, "size_px": size_px, "num_threads": self._num_threads}
            answer = worker.ask((read_clip, os.fspath(path), wanted), self._timeout_s)
        except _Gone as gone:
            if self._closed:
                raise VideoError(path, _CLOSED) from None
            worker = self._replace(worker, path)
            raise VideoError(path, str(gone)) from None
        finally:
            self._idle.put(worker)
        if isinstance(answer, VideoError):
            raise answer
        return answer

    def close(self) -> None:
        """Kill the workers; who waits for them is told."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.kill()
        self._idle.put(None)

    def _replace(self, worker: _Worker | None, path: str | os.PathLike[str]) -> _Worker:
        with self._lock:
            if self._closed or worker is None:
                raise VideoError(path, _CLOSED)
            worker.kill()
            try:
                fresh = _Worker()
            except OSError as error:  # the dead one stays in its place: the next file tries again
                raise VideoError(path, f"{_NOT_STARTED} ({error.strerror})") from error
            self._workers.remove(worker)
            self._workers.add(fresh)
            return fresh

    def __enter__(self) -> ProcessDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Gone(Exception):  # noqa: N818
    """A worker that is of no use any more; ``str()`` says what became of it."""


class _Worker:
    """One process and the only connection to it."""

    def __init__(self) -> None:
        context = get_context("spawn")  # never fork: gRPC's threads and locks do not survive it
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=reading.serve, args=[theirs], daemon=True)
        self._ready = False
        resource_tracker.ensure_running()  # its start would unblock the signal below
        # Until the worker can ignore Ctrl-C, which a terminal sends to all processes, it must not see it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def lives(self) -> bool:
        return self._process.is_alive()

    def ask(self, job: reading.Job, timeout_s: float) -> Decoded | VideoError:
        """Have one file read; a start that takes its time is not the file's fault.

        Raises:
            _Gone: if the worker died or took too long; it must be replaced then.
        """
        try:
            if not self._ready:
                self._receive(START_TIMEOUT_S, _NOT_STARTED)
                self._ready = True
            started = time.perf_counter()
            self._connection.send(job)
            answer = self._receive(timeout_s, f"decoding took longer than {timeout_s:g} s and was given up")
        except (EOFError, OSError):
            self._process.join()
            raise _Gone(f"its decoder {_cause_of_death(self._process.exitcode or 0)}") from None
        if isinstance(answer, VideoError):
            return answer
        return Decoded(answer, (time.perf_counter() - started) * 1000)

    def _receive(self, timeout_s: float, complaint: str) -> Any:
        if not self._connection.poll(timeout_s):
            raise _Gone(complaint)
        return self._connection.recv()

    def kill(self) -> None:
        """End the process; a thread that waits for its answer sees the connection end."""
        self._process.kill()
        self._process.join()


def usable_cpus() -> int:
    """CPUs this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cause_of_death(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed, probably for want of memory"
    if exit_code < 0:
        return f"crashed ({signal.strsignal(-exit_code) or f'signal {-exit_code}'}): the file is damaged or malicious"
    return f"ended unexpectedly with exit code {exit_code}"
