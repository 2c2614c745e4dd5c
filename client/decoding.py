"""A path to a decoded clip or stream, here or in a process that may crash, hang or be killed and takes no other along.

InlineDecoder     in this process: no start-up cost, for files one trusts
ProcessDecoder    in worker processes: a file that crashes or hangs its decoder costs only itself
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from queue import Empty, LifoQueue
from types import TracebackType
from typing import Protocol

from reelkind.core import reading
from reelkind.core.video import Chunk, Clip, VideoError, read_clip, read_stream

from ._errors import InvalidOption
from ._worker import NOT_STARTED, Gone, Worker

DECODE_TIMEOUT_S = 120.0  # an hour of 4K with one keyframe takes less on a laptop
_CLOSED = "not decoded: the decoder was closed"


@dataclass(frozen=True)
class Decoded:
    """A clip and what it took to decode it."""

    clip: Clip
    decode_ms: float


class Decoder(Protocol):
    """Turns files into clips and streams; called from several threads at once.

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

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        """Decode a whole file at ``rate`` frames a second, scaled to ``size_px`` squared, a chunk at a time.

        Nothing is read ahead of who takes the chunks but what is on its way.

        Raises:
            VideoError: while iterating, after the chunks that could be read.
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

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        path = os.fspath(path)
        try:
            yield from read_stream(path, rate=rate, size_px=size_px, num_threads=self._num_threads)
        except VideoError:
            raise
        except Exception as error:
            raise reading.unforeseen(path, error) from error

    def close(self) -> None:
        """Nothing is held."""


class ProcessDecoder:
    """Decodes in worker processes, each started afresh without anything of this process.

    Each worker has a connection of its own and works on one file at a time, so that killing it, or its death,
    touches no other. Scripts need no ``if __name__ == "__main__":`` for it.

    Args:
        num_workers: processes; by default one a CPU this process may use.
        timeout_s: a file that takes longer is given up and its worker replaced.
        num_threads: decoder threads a file; the files themselves keep the CPUs busy.

    Raises:
        InvalidOption: if ``num_workers`` is below 1.
    """

    def __init__(
        self, num_workers: int | None = None, *, timeout_s: float = DECODE_TIMEOUT_S, num_threads: int = 1
    ) -> None:
        self.num_workers = usable_cpus() if num_workers is None else num_workers
        if self.num_workers < 1:
            raise InvalidOption(f"num_workers must be at least 1, got {num_workers}")
        self._timeout_s = timeout_s
        self._num_threads = num_threads
        self._closed = False
        self._lock = threading.Lock()
        self._workers = {Worker() for _ in range(self.num_workers)}
        self._idle: LifoQueue[Worker | None] = LifoQueue()  # None wakes who waits when all is over
        for worker in self._workers:
            self._idle.put(worker)

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        worker = self._idle.get()
        try:
            if worker is None or not worker.lives():
                worker = self._replace(worker, path)
            wanted = {"num_frames": num_frames, "size_px": size_px, "num_threads": self._num_threads}
            answer, decode_ms = worker.ask((read_clip, os.fspath(path), wanted), self._timeout_s)
        except Gone as gone:
            if self._closed:
                raise VideoError(path, _CLOSED) from None
            worker = self._replace(worker, path)
            raise VideoError(path, str(gone)) from None
        except BaseException:
            if worker is not None:
                worker.kill()  # it would give the next file this one's answer
            raise
        finally:
            self._idle.put(worker)
        if isinstance(answer, VideoError):
            raise answer
        return Decoded(answer, decode_ms)

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        """As ``Decoder.stream``, in an idle worker or one more: reading two streams by turns must not wait for itself.

        A stream that is not read to its end takes its worker's process with it.
        """
        worker = self._idle_or_new(path)
        wanted = {"rate": rate, "size_px": size_px, "num_threads": self._num_threads}
        finished = False
        try:
            if worker is None or not worker.lives():
                worker = self._replace(worker, path)
            for answer in worker.ask_for_stream((read_stream, os.fspath(path), wanted), self._timeout_s):
                finished = isinstance(answer, VideoError)
                if isinstance(answer, VideoError):
                    raise answer
                yield answer
            finished = True
        except Gone as gone:
            raise VideoError(path, _CLOSED if self._closed else str(gone)) from None
        finally:
            if worker is not None and not finished:
                worker.kill()  # it would go on with what nobody wants; the next file gets another
            self._idle.put(worker)

    def close(self) -> None:
        """Kill the workers; who waits for them is told."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.kill()
        self._idle.put(None)

    def _replace(self, worker: Worker | None, path: str | os.PathLike[str]) -> Worker:
        with self._lock:
            if self._closed or worker is None:
                raise VideoError(path, _CLOSED)
            worker.kill()
            fresh = _started(path)  # if it fails, the dead one stays in its place: the next file tries again
            self._workers.remove(worker)
            self._workers.add(fresh)
            return fresh

    def _idle_or_new(self, path: str | os.PathLike[str]) -> Worker | None:
        try:
            return self._idle.get_nowait()
        except Empty:
            with self._lock:
                if self._closed:
                    raise VideoError(path, _CLOSED) from None
                fresh = _started(path)
                self._workers.add(fresh)
                return fresh

    def __enter__(self) -> ProcessDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _started(path: str | os.PathLike[str]) -> Worker:
    try:
        return Worker()
    except OSError as error:
        raise VideoError(path, f"{NOT_STARTED} ({error.strerror})") from error


def usable_cpus() -> int:
    """CPUs this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
