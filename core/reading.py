"""A worker process's main loop: paths come and clips go through a connection.

It lives here, and not beside the client that starts it, because a worker imports what its main loop imports.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from .errors import VideoError
from .video import Clip

Job = tuple[Callable[..., Clip], str, dict[str, Any]]
"""(reader, path, the reader's other arguments)"""


def serve(jobs: Connection[Clip | VideoError | None, Job]) -> None:
    """Say None when ready; then answer each job with a clip, or the error, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is meant for who started this process
    try:
        jobs.send(None)
        while True:
            jobs.send(_answer(*jobs.recv()))
    except (EOFError, OSError):  # however it went: there is nobody left to tell
        return


def _answer(read: Callable[..., Clip], path: str, wanted: dict[str, Any]) -> Clip | VideoError:
    try:
        return read(path, **wanted)
    except VideoError as error:
        return error
    except Exception as error:
        return unforeseen(path, error)


def unforeseen(path: str, error: Exception) -> VideoError:
    """The error for a reader's own mistake, which must not end the work on other files."""
    return VideoError(path, f"cannot be decoded ({type(error).__name__}: {error})")
