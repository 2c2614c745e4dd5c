"""One process that reads video files, and the only connection to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing import Pipe
from typing import Any

from reelkind.core.errors import VideoError
from reelkind.core.limits import Limits
from reelkind.video import worker_main
from reelkind.video.clip import Chunk, Clip

START_TIMEOUT_S = 60.0  # a worker is ready after half a second, on a machine under load after several
NOT_STARTED = "not decoded: no decoder process could be started"


class Gone(Exception):  # noqa: N818
    """A worker that is of no use any more; ``str()`` says what became of it."""


_PROGRAM = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from reelkind.video import worker_main
worker_main.main(int(sys.argv[1]), json.loads(sys.argv[3]))
"""


class Worker:
    """A process, started afresh without anything of this one; it works on one file at a time.

    Not one of ``multiprocessing``, which would run the caller's script again in it, or fail where there is no script:
    in a notebook, or read from stdin. Nor a fork, which gRPC's threads and locks do not survive.
    """

    def __init__(self, limits: Limits) -> None:
        self._connection, theirs = Pipe()
        self._ready = False
        arguments = [str(theirs.fileno()), json.dumps([*map(str, sys.path)]), json.dumps(asdict(limits))]
        command = [sys.executable, "-P", "-c", _PROGRAM, *arguments]
        # Until the worker can ignore Ctrl-C, which a terminal sends to all processes, it must not see it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        weakref.finalize(self, _end, self._process)  # also when this process ends and nobody has closed anything

    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: worker_main.Job, timeout_s: float) -> tuple[Clip | VideoError, float]:
        """Have one file read and say in how many milliseconds; a start that takes its time is not the file's fault.

        Raises:
            Gone: if the worker died or took too long; it must be replaced then.
        """
        self._send(job)
        started = time.perf_counter()
        answer = self._next_answer(timeout_s)
        return answer, (time.perf_counter() - started) * 1000

    def ask_for_stream(self, job: worker_main.Job, timeout_s: float) -> Iterator[Chunk | VideoError]:
        """Have one file read chunk by chunk, each of which may take ``timeout_s``; an error comes last.

        Raises:
            Gone: as ``ask``.
        """
        self._send(job)
        while (answer := self._next_answer(timeout_s)) is not None:
            yield answer

    def _send(self, job: worker_main.Job) -> None:
        if not self._ready:
            self._receive(START_TIMEOUT_S, NOT_STARTED)
            self._ready = True
        try:
            self._connection.send(job)
        except OSError:
            raise self._death() from None

    def _next_answer(self, timeout_s: float) -> Any:
        return self._receive(timeout_s, f"decoding took longer than {timeout_s:g} s and was given up")

    def _receive(self, timeout_s: float, complaint: str) -> Any:
        try:
            if not self._connection.poll(timeout_s):
                raise Gone(complaint)
            return self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None

    def _death(self) -> Gone:
        return Gone(f"its decoder {_cause_of_death(self._process.wait())}")

    def kill(self) -> None:
        """End the process; a thread that waits for its answer sees the connection end."""
        _end(self._process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _cause_of_death(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed, probably for want of memory"
    if exit_code == -signal.SIGXCPU:
        return "took more processor time than it is allowed"
    if exit_code < 0:
        return f"crashed ({signal.strsignal(-exit_code) or f'signal {-exit_code}'}): the file is damaged or malicious"
    return f"ended unexpectedly with exit code {exit_code}"
