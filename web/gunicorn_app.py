"""The web process: ``python -m reelkind.web.gunicorn_app FD`` serves on a socket that was handed down."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from .app import create_app
from .settings import Settings

_THREADS_BESIDE_STREAMS = 24
_KEEPALIVE_S = 15
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with one process of many threads: rate limits and the feed of events are in its memory.

    Args:
        settings: of the application.
        descriptor: of the listening socket.
    """

    def __init__(self, settings: Settings, descriptor: int) -> None:
        self._settings, self._descriptor = settings, descriptor
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn."""
        values: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "workers": 1,
            "worker_class": "gthread",
            "threads": self._settings.limits.streams + _THREADS_BESIDE_STREAMS,
            "timeout": 60,
            "graceful_timeout": 3,
            "keepalive": _KEEPALIVE_S,
            "loglevel": "warning",
            "proc_name": "reelkind-web",
            "control_socket_disable": True,
        }
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called by gunicorn in the process that serves."""
        return create_app(self._settings)


def main(descriptor: int) -> None:
    """Run as a process of ``fleet``."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    Server(Settings.from_environment(), descriptor).run()


if __name__ == "__main__":
    number = int(sys.argv[1])
    sys.argv[1:] = []  # gunicorn would read them
    main(number)
