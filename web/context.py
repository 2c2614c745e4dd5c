"""What views need, made once for the web process."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, cast

from flask import current_app

from reelkind.client import Client, ClientError

from .jobs.models import groups
from .jobs.store import Store
from .jobs.tables import open_database
from .safety.buckets import Buckets
from .safety.guard import Guard
from .settings import Settings

_MODELS_AGE_S = 10.0
_PROBE_TIMEOUT_S = 3.0


@dataclass
class Context:
    """Parts shared by all requests.

    Attributes:
        settings: of the application.
        store: the jobs.
        guard: who may ask.
        requests, new_jobs: how often.
        server: the inference server, as far as the page asks it anything.
        feed: tells of changes.
    """

    settings: Settings
    store: Store
    guard: Guard
    requests: Buckets
    new_jobs: Buckets
    server: Server
    feed: Feed

    @classmethod
    def of(cls, settings: Settings) -> Context:
        """Open everything."""
        limits = settings.limits
        store = Store(open_database(settings.database_url), max_queued=limits.queued, max_attempts=limits.attempts)
        return cls(
            settings,
            store,
            Guard(settings),
            Buckets(limits.requests_per_minute),
            Buckets(limits.jobs_per_minute),
            Server(settings.url),
            Feed(store, limits.streams),
        )


class Server:
    """What the inference server says of itself, asked now and then.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._known: tuple[float, list[dict[str, Any]]] | None = None

    def models(self) -> list[dict[str, Any]]:
        """See ``jobs.models.groups``; at most ten seconds old, or of before the server went away.

        Raises:
            ClientError: if it has not answered yet.
        """
        with self._lock:
            known = self._known
            if known is not None and time.monotonic() - known[0] < _MODELS_AGE_S:
                return known[1]
            try:
                found = groups(self._open())
            except ClientError:
                if known is None:
                    raise
                found = known[1]
            self._known = time.monotonic(), found
            return found

    def is_ready(self) -> bool:
        """Whether it says that it can answer."""
        with self._lock:
            return self._open().is_ready()

    def _open(self) -> Client:
        if self._client is None:
            self._client = Client(self._url, timeout_s=_PROBE_TIMEOUT_S, retry_s=0, shared_memory=False)
        return self._client


@dataclass
class Feed:
    """Wakes those who wait for a change of any job: one thread looks for all of them.

    Args:
        store: the jobs.
        max_listeners: at a time.
    """

    store: Store
    max_listeners: int
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _state: tuple[float, int] = (0.0, 0)
    _listeners: int = 0
    _looking: bool = False

    LOOK_EVERY_S = 0.05

    def join(self) -> bool:
        """Listen from now on; False if too many do."""
        with self._changed:
            if self._listeners >= self.max_listeners:
                return False
            self._listeners += 1
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, daemon=True, name="feed").start()
            return True

    def leave(self) -> None:
        """Listen no longer."""
        with self._changed:
            self._listeners -= 1

    def wait(self, seen: tuple[float, int], timeout_s: float) -> tuple[float, int]:
        """Until the jobs are not as they were ``seen``, or the time is over; how they are."""
        with self._changed:
            self._changed.wait_for(lambda: self._state != seen, timeout_s)
            return self._state

    def _look(self) -> None:
        while True:
            with self._changed:
                if self._listeners == 0:
                    self._looking = False
                    return
            state = self.store.state()
            with self._changed:
                if state != self._state:
                    self._state = state
                    self._changed.notify_all()
            time.sleep(self.LOOK_EVERY_S)


def context() -> Context:
    """That of the application."""
    return cast(Context, current_app.extensions["reelkind"])
