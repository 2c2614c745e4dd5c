"""Readers that misbehave as damaged files make real ones do; worker processes import them by name."""

import os
import signal
import time


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


def stumble(path, **_):
    """Meet a bug."""
    raise KeyError("bug")
