"""Readers that misbehave as damaged files make real ones do; worker processes import them by name."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from reelkind.video.clip import Chunk, read_stream


def hang(path, **_):
    """Never come back."""
    time.sleep(3600)


def crash(path, **_):
    """Die as a decoder does that reads outside its memory."""
    os.kill(os.getpid(), signal.SIGSEGV)


def run_out_of_memory(path, **_):
    """Die as the kernel lets die whoever takes too much."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave(path, **_):
    """Die politely."""
    os._exit(3)


def hoard(path, **_):
    """Want ever more memory."""
    kept = []
    while True:
        kept.append(np.ones(1 << 25))


def spin(path, **_):
    """Compute for ever."""
    while True:
        pass


def write(path, **_):
    """Write a file, as no decoder needs to."""
    Path(path).write_bytes(b"x")


def stumble(path, **_):
    """Meet a bug."""
    raise KeyError("bug")


def hang_in_a_stream(path, **wanted):
    """Never come back from the second chunk."""
    yield next(read_stream(path, **wanted))
    time.sleep(3600)


def crash_in_a_stream(path, **wanted):
    """Die between the first chunk and the second."""
    yield next(read_stream(path, **wanted))
    os.kill(os.getpid(), signal.SIGSEGV)


def count_chunks(path, **_):
    """A hundred chunks of three megabytes; beside the path lie as many empty files as were begun."""
    for i in range(100):
        Path(f"{path}.{i}").touch()
        yield Chunk(np.zeros((16, 256, 256, 3), np.uint8), np.zeros(16, np.int64), i, 100, is_last=i == 99)
