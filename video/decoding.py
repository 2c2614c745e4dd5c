"""A path to a decoded clip or stream, here or in a process that may crash, hang or be killed and takes no other along.

InlineDecoder     in this process: no start-up cost, for files one trusts
ProcessDecoder    in worker processes: a file that crashes or hangs its decoder costs only itself
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from reelkind.core.errors import InvalidOption
from reelkind.core.limits import MEMORY_BYTES, Limits
from reelkind.core.timing.clips import EXACT, SEEKS
from reelkind.video import worker_main
from reelkind.video.clip import Chunk, Clip, VideoError, read_clip, read_stream

from .worker import NOT_STARTED, Gone, Worker

_MIN_MEMORY_BYTES = 1 << 30
_SPARE_CPU_S = 30.0  # whoever waits gives up first: the system's limit is for when there is nobody left
WAKE_UP_S = 0.5  # a signal does not end a wait
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
        num_workers: how many clips it decodes at the same time; streams come on top.
        seek: how it finds a clip's frames, one of ``core.timing.clips.SEEKS``.
    """

    num_workers: int
    seek: str

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
        seek: how a clip's frames are found, see ``read_clip``.

    Raises:
        InvalidOption: if there is no such ``seek``.
    """

    def __init__(self, num_threads: int = 0, *, seek: str = EXACT) -> None:
        self.num_workers = usable_cpus()
        self.seek = _check_seek(seek)
        self._num_threads = num_threads

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        started = time.perf_counter()
        path = os.fspath(path)
        try:
            clip = read_clip(
                path, num_frames=num_frames, size_px=size_px, num_threads=self._num_threads, seek=self.seek
            )
        except VideoError:
            raise
        except Exception as error:
            raise worker_main.unforeseen(path, error) from error
        return Decoded(clip, (time.perf_counter() - started) * 1000)

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        path = os.fspath(path)
        try:
            yield from read_stream(path, rate=rate, size_px=size_px, num_threads=self._num_threads)
        except VideoError:
            raise
        except Exception as error:
            raise worker_main.unforeseen(path, error) from error

    def close(self) -> None:
        """Nothing is held."""


class ProcessDecoder:
    """Decodes in worker processes, each started afresh without anything of this process.

    Each worker has a connection of its own and works on one file at a time, so that killing it, or its death,
    touches no other. Scripts need no ``if __name__ == "__main__":`` for it.

    Args:
        num_workers: processes, by default one a CPU this process may use; streams that are read at the same time as
            that many files have one more each.
        timeout_s: a file that takes longer is given up and its worker replaced.
        num_threads: decoder threads a file; the files themselves keep the CPUs busy.
        memory_bytes: address space of a process, which a file that wants more is refused for; at least 1 GiB.
        seek: how a clip's frames are found, see ``read_clip``.

    Raises:
        InvalidOption: if ``num_workers`` is below 1, ``memory_bytes`` too few to decode anything, or there is no such
            ``seek``.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        *,
        timeout_s: float = DECODE_TIMEOUT_S,
        num_threads: int = 1,
        memory_bytes: int = MEMORY_BYTES,
        seek: str = EXACT,
    ) -> None:
        self.num_workers = usable_cpus() if num_workers is None else num_workers
        if self.num_workers < 1:
            raise InvalidOption(f"num_workers must be at least 1, got {num_workers}")
        if memory_bytes < _MIN_MEMORY_BYTES:
            raise InvalidOption(f"memory_bytes must be at least {_MIN_MEMORY_BYTES}, got {memory_bytes}")
        self._limits = Limits(memory_bytes, timeout_s * (num_threads or usable_cpus()) + _SPARE_CPU_S)
        self.seek = _check_seek(seek)
        self._timeout_s = timeout_s
        self._num_threads = num_threads
        self._closed = False
        self._changed = threading.Condition()  # guards what follows
        self._free = [Worker(self._limits) for _ in range(self.num_workers)]
        self._workers = set(self._free)
        self._num_clips = 0  # being decoded

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        wanted = {"num_frames": num_frames, "size_px": size_px, "num_threads": self._num_threads, "seek": self.seek}
        job = _job(read_clip, path, wanted)
        with self._place(), self._worker(path) as worker:
            answer, decode_ms = worker.ask(job, self._timeout_s)
        if isinstance(answer, VideoError):
            raise answer
        return Decoded(answer, decode_ms)

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        """As ``Decoder.stream``, in a free worker or one more: a stream lasts as long as its reader likes.

        A stream that is not read to its end takes its worker's process with it.
        """
        wanted = {"rate": rate, "size_px": size_px, "num_threads": self._num_threads}
        job, problem = _job(read_stream, path, wanted), None
        with self._worker(path) as worker:
            for answer in worker.ask_for_stream(job, self._timeout_s):
                if isinstance(answer, VideoError):
                    problem = answer
                    break
                yield answer
        if problem is not None:
            raise problem

    def close(self) -> None:
        """Kill the workers; who waits for them is told."""
        with self._changed:
            self._closed = True
            for worker in self._workers:
                worker.kill()
            self._changed.notify_all()

    @contextmanager
    def _place(self) -> Iterator[None]:
        """Be one of ``num_workers`` files, waiting for that if need be."""
        with self._changed:
            while self._num_clips >= self.num_workers and not self._closed:
                self._changed.wait(WAKE_UP_S)  # a signal that came as the wait began is seen when it wakes up
            self._num_clips += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_clips -= 1
                self._changed.notify()

    @contextmanager
    def _worker(self, path: str | os.PathLike[str]) -> Iterator[Worker]:
        """A worker of one's own; unless all goes well it ends, as it would give the next file this one's answer.

        Raises:
            VideoError: if there is none, or it is gone.
        """
        worker = self._take(path)
        try:
            yield worker
        except Gone as gone:
            worker.kill()
            raise VideoError(path, _CLOSED if self._closed else str(gone)) from None
        except BaseException:
            worker.kill()
            raise
        finally:
            self._give_back(worker)

    def _take(self, path: str | os.PathLike[str]) -> Worker:
        with self._changed:
            if self._closed:
                raise VideoError(path, _CLOSED)
            while self._free:
                if (worker := self._free.pop()).lives():
                    return worker
                self._workers.remove(worker)
            try:
                worker = Worker(self._limits)
            except OSError as error:
                raise VideoError(path, f"{NOT_STARTED} ({error.strerror})") from error
            self._workers.add(worker)
            return worker

    def _give_back(self, worker: Worker) -> None:
        with self._changed:
            if worker.lives() and len(self._free) < self.num_workers:
                self._free.append(worker)
            else:
                worker.kill()
                self._workers.remove(worker)

    def __enter__(self) -> ProcessDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_seek(seek: str) -> str:
    if seek not in SEEKS:
        raise InvalidOption(f"seek must be one of {', '.join(SEEKS)}, got {seek!r}")
    return seek


def _job(read: Callable[..., Any], path: str | os.PathLike[str], wanted: dict[str, Any]) -> worker_main.Job:
    """Have a file read as this process would find it now: a worker was started in another folder, maybe.

    Raises:
        VideoError: if the path is relative to a folder that is gone.
    """
    path = os.fspath(path)
    try:
        return read, path, wanted, None if os.path.isabs(path) else os.getcwd()  # noqa: PTH109, PTH117
    except FileNotFoundError:
        raise VideoError(path, "no such file: the current folder is gone") from None


def usable_cpus() -> int:
    """CPUs this process may run on, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
