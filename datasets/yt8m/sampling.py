"""A stream of keyed items to a sample that depends on the keys and the seed only, in flat memory."""

from __future__ import annotations

import hashlib
import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class BottomK(Generic[T]):
    """The k items whose keys have the smallest seeded hashes: a uniform sample, whatever the order of arrival.

    The same keys give the same sample however they are spread over files, and a key counts once.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self._heap: list[tuple[int, str]] = []  # negated hashes, so that the largest is on top
        self._items: dict[str, T] = {}

    def would_keep(self, key: str) -> bool:
        """Whether an item of this key would be kept now."""
        if key in self._items:
            return False
        return len(self._heap) < self.size or (self.size > 0 and self._entry(key) > self._heap[0])

    def offer(self, key: str, item: T) -> None:
        """Keep the item if its hash is among the smallest so far and its key is new."""
        if not self.would_keep(key):
            return
        self._items[key] = item
        heapq.heappush(self._heap, self._entry(key))
        if len(self._heap) > self.size:
            del self._items[heapq.heappop(self._heap)[1]]

    def items(self) -> list[T]:
        """What was kept, in the order of the hashes."""
        return [self._items[key] for _, key in sorted(self._heap, reverse=True)]

    def _entry(self, key: str) -> tuple[int, str]:
        return -seeded_hash(key, self.seed), key


def seeded_hash(key: str, seed: int) -> int:
    """A number in [0, 2**64) that looks random but is the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest(), "big")
