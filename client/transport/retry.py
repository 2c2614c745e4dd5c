"""A failure and the time spent so far to the pause before the next attempt, or to giving up. Pure but for the clock."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import AccessDenied, ClientError, InvalidOption, ModelUnavailable, RequestTimeout, ServerBusy, TlsFailed

RESTART_S = 20.0  # a crashed model is back within five seconds, a restarted server within fifteen
BUSY_S = 2.0  # a queue that is longer full is full of others' requests: more of them help nobody
MAX_SECONDS = 86_400  # a day; system calls overflow at some weeks
FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0  # a reloaded model is back within five seconds; looking every two is enough
BURST = 10  # retries of refusals that are free, before the share counts

_RESTARTING = ("INTERNAL", "NOT_FOUND")
"""What Triton says of a model whose process died, and while a supervisor loads it again; for all else UNAVAILABLE."""

_LOADING = ("has no available versions", "not at ready state")
"""Triton's words for a model that it has but cannot ask now; one it has never heard of "is not found"."""


@dataclass(frozen=True)
class Retry:
    """How what fails for a passing reason is tried again.

    Attributes:
        restart_s: how long after the first failure what is being restarted is: a model, a server that answered before.
        busy_s: how long a full queue is.
        jitter: share of a pause, 0 .. 1, by which it is longer or shorter at random: many must not come back at once.
        budget: retries of refusals, as a share of all calls of a client, beyond ten: so that an overloaded server is
            not asked a multiple of what it refuses. None for any number.

    Raises:
        InvalidOption: if one of these is of no use.
    """

    restart_s: float = RESTART_S
    busy_s: float = BUSY_S
    jitter: float = 0.5
    budget: float | None = 0.2

    def __post_init__(self) -> None:
        for name, value in (("restart_s", self.restart_s), ("busy_s", self.busy_s)):
            if not 0 <= value <= MAX_SECONDS:
                raise InvalidOption(f"{name} must be from 0 (never again) to {MAX_SECONDS} (a day), got {value}")
        if not 0 <= self.jitter <= 1:
            raise InvalidOption(f"jitter must be from 0 to 1, got {self.jitter}")
        if self.budget is not None and not 0 <= self.budget < math.inf:
            raise InvalidOption(f"budget must be a share from 0, or None for any number, got {self.budget}")

    @classmethod
    def of(cls, retry_s: float | Retry) -> Retry:
        """What a client is given: a ``Retry``, or seconds for restarts, of which a full queue gets ``BUSY_S`` at most.

        Raises:
            InvalidOption: if it is of no use.
        """
        if isinstance(retry_s, Retry):
            return retry_s
        if not 0 <= retry_s <= MAX_SECONDS:
            raise InvalidOption(f"retry_s must be from 0 (never again) to {MAX_SECONDS} (a day), got {retry_s}")
        return cls(restart_s=retry_s, busy_s=min(retry_s, BUSY_S))


PATIENT = Retry(busy_s=MAX_SECONDS, budget=None)
"""For work that nobody waits for, as of a folder: however full the queue is, the deadline of a call is the limit."""


class Budget:
    """What the calls of one client together may spend on retries of refusals; threads may share it."""

    def __init__(self, share: float | None) -> None:
        self._share, self._left = share, float(BURST)
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Once for each call."""
        if self._share is not None:
            with self._lock:
                self._left = min(self._left + self._share, BURST)

    def spend(self) -> bool:
        """Whether there is enough left for a retry, which is taken."""
        if self._share is None:
            return True
        with self._lock:
            enough = self._left >= 1
            self._left -= enough
            return enough


class Patience:
    """How long one call may take, attempts and pauses together.

    Args:
        timeout_s: deadline of the call.
        retry: how what fails for a passing reason is tried again.
        budget: of the client.
        clock: seconds, ascending.

    Attributes:
        failed_first: when, by the clock; infinite if nothing has failed.
    """

    def __init__(
        self, timeout_s: float, retry: Retry, budget: Budget, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline = clock() + timeout_s
        self._retry, self._budget = retry, budget
        self.failed_first = math.inf  # by the clock; nothing has failed yet
        self._pause_s = FIRST_PAUSE_S
        budget.earn()

    def remaining_s(self) -> float:
        """What an attempt may take.

        Raises:
            RequestTimeout: if the deadline has passed.
        """
        remaining = self._deadline - self._clock()
        if remaining <= 0:
            raise RequestTimeout(f"no answer within {self._timeout_s:g} s; raise the timeout or lower the load")
        return remaining

    def pause_s(self, error: ClientError, *, connected: bool) -> float | None:
        """Seconds to wait before trying again, None to give up.

        Args:
            error: what the attempt failed with.
            connected: whether what failed, server or model, has answered before; else address or name may be wrong.
        """
        unavailable = error.status == "UNAVAILABLE" and not isinstance(error, TlsFailed | AccessDenied)
        busy = unavailable and isinstance(error, ServerBusy)
        lacking = isinstance(error, ModelUnavailable)
        restarting = (unavailable or error.status in _RESTARTING) if lacking else unavailable
        known = connected or (lacking and any(words in str(error) for words in _LOADING))
        now = self._clock()
        self.failed_first = min(self.failed_first, now)
        allowed_s = self._retry.busy_s if busy else self._retry.restart_s
        pause = self._pause_s * random.uniform(1 - self._retry.jitter, 1 + self._retry.jitter)
        if now + pause >= min(self.failed_first + allowed_s, self._deadline):
            return None
        if not (self._budget.spend() if busy else restarting and known):
            return None
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        return pause
