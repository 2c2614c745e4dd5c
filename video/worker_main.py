"""A worker process's main loop: paths come, clips and chunks go through a connection.

It lives here, and not beside the client that starts it, because a worker imports what its main loop imports.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from reelkind.core.errors import VideoError
from reelkind.core.limits import Limits

from .clip import Chunk, Clip

Job = tuple[Callable[..., Clip | Iterator[Chunk]], str, dict[str, Any], str | None]
"""(reader, path, the reader's other arguments, the folder that a relative path is meant from)"""

Result = Clip | Chunk | VideoError | None
"""To a job for a clip, the clip; to one for a stream, its chunks and None; the error ends both."""


def main(descriptor: int, limits: Mapping[str, Any]) -> None:
    """``serve`` whoever opened the other end of a duplex ``Pipe``, whose descriptor here was handed down."""
    serve(Connection(descriptor), Limits(**limits))


def serve(jobs: Connection[Result, Job], limits: Limits) -> None:
    """Say None when ready; then answer each job until the other side is gone.

    A stream is read no faster than its chunks are taken: the connection holds less than one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is meant for who started this process
    limits.confine()
    try:
        jobs.send(None)
        while True:
            job = jobs.recv()
            limits.renew_cpu()
            for answer in _answers(limits, *job):
                jobs.send(answer)
                limits.renew_cpu()
    except (EOFError, OSError):  # however it went: there is nobody left to tell
        return


def _answers(
    limits: Limits, read: Callable[..., Clip | Iterator[Chunk]], path: str, wanted: dict[str, Any], folder: str | None
) -> Iterator[Result]:
    try:
        if folder is not None:
            os.chdir(folder)
        found = read(path, **wanted)
        if isinstance(found, Clip):
            yield found
            return
        yield from found
        yield None
    except VideoError as error:
        yield error
    except MemoryError:  # FFmpeg's, too
        yield VideoError(path, limits.memory_sentence)
    except Exception as error:
        yield unforeseen(path, error)


def unforeseen(path: str, error: Exception) -> VideoError:
    """The error for a reader's own mistake, which must not end the work on other files."""
    return VideoError(path, f"cannot be decoded ({type(error).__name__}: {error})")
