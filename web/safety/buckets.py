"""How often an address may ask: a token bucket each, in the memory of the one web process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

_MAX_ADDRESSES = 10_000  # least recently seen ones are forgotten


class Buckets:
    """Allows ``per_minute`` requests a minute from each address, and as many at once after a rest.

    Args:
        per_minute: at least 1.
    """

    def __init__(self, per_minute: int) -> None:
        self._size = float(per_minute)
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (tokens left, when)
        self._lock = threading.Lock()

    def take(self, address: str) -> float:
        """Take one token; 0.0, or the seconds after which there will be one."""
        now = time.monotonic()
        with self._lock:
            left, when = self._levels.pop(address, (self._size, now))
            left = min(self._size, left + (now - when) * self._size / 60)
            allowed = left >= 1
            self._levels[address] = (left - allowed, now)
            if len(self._levels) > _MAX_ADDRESSES:
                self._levels.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / self._size
