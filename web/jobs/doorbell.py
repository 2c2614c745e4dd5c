"""Wakes workers the moment there is work; who misses it looks by himself a second later."""

from __future__ import annotations

import select
import socket
from contextlib import suppress

WAIT_S = 1.0  # also how soon workers on other hosts see a job


class Doorbell:
    """A worker's end. Its name is in Linux's abstract namespace: no file, gone with the process.

    Args:
        identity: of the installation.
        number: of the worker.
    """

    def __init__(self, identity: str, number: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with suppress(OSError):  # another installation's worker has the name: then this one looks every second
            self._socket.bind(_name(identity, number))

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Until it rings, or the time is over."""
        if select.select([self._socket], [], [], timeout_s)[0]:
            with suppress(BlockingIOError):
                while True:
                    self._socket.recv(64)


def ring(identity: str, num_workers: int) -> None:
    """Wake all workers of this machine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bell:
        for number in range(num_workers):
            with suppress(OSError):  # nobody there, or more rings than anyone needs
                bell.sendto(b"!", _name(identity, number))


def _name(identity: str, number: int) -> bytes:
    return f"\0reelkind-web-{identity}-{number}".encode()
