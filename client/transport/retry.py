"""A failure and the time spent so far to the pause before the next attempt, or to giving up. Pure but for the clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from .errors import AccessDenied, ClientError, ModelUnavailable, RequestTimeout, ServerBusy, TlsFailed

FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 2.0  # a reloaded model is back within five seconds; looking every two is enough

_RESTARTING = ("INTERNAL", "NOT_FOUND")
"""What Triton says of a model whose process died, and while a supervisor loads it again; for all else UNAVAILABLE."""


class Patience:
    """How long one call may take, attempts and pauses together.

    Args:
        timeout_s: deadline of the call.
        retry_s: how long after the first failure a passing failure is tried again; 0 for never.
        clock: seconds, ascending.
    """

    def __init__(self, timeout_s: float, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._deadline = clock() + timeout_s
        self._retry_s = retry_s
        self._retry_until: float | None = None
        self._pause_s = FIRST_PAUSE_S

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
        restarting = error.status in _RESTARTING and isinstance(error, ModelUnavailable)
        busy = unavailable and isinstance(error, ServerBusy)
        passing = busy or (connected and (unavailable or restarting))
        now = self._clock()
        if self._retry_until is None:
            self._retry_until = min(now + self._retry_s, self._deadline)
        pause = self._pause_s * random.uniform(0.5, 1.5)  # jitter: many clients must not come back at once
        if not passing or now + pause >= self._retry_until:
            return None
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
        return pause
