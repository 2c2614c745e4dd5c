"""Whose turn it is among several servers: smooth weighted round robin, ejection, slow start. Pure but for the clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

EJECT_S = 1.0  # the first time; twice as long each time it fails again before it has answered for a while
MAX_EJECT_S = 30.0
SLOW_START_S = 10.0  # a server that comes back has cold caches and, with it, other clients coming back
LEAST_WEIGHT = 0.1  # of a server that has just come back; others have 1

K = TypeVar("K", bound=Hashable)


@dataclass
class _Place:
    """One server's standing.

    Attributes:
        credit: what round robin owes it.
        failures: in a row.
        ejected_until: when it may be asked again; None while it is in turn.
        changed: when it was ejected or came back last; None if it never was away.
        probing: somebody is finding out whether it is back.
    """

    credit: float
    failures: int = 0
    ejected_until: float | None = None
    changed: float | None = None
    probing: bool = False


class Rotation(Generic[K]):
    """Takes turns; whoever uses it from several threads holds a lock of its own.

    Args:
        keys: the servers.
        clock: seconds, ascending.
    """

    def __init__(self, keys: Collection[K], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._places: dict[K, _Place] = {}
        self.update(keys)

    @property
    def in_turn(self) -> list[K]:
        """Servers that are not ejected."""
        return [key for key, place in self._places.items() if place.ejected_until is None]

    def update(self, keys: Collection[K]) -> None:
        """Replace the servers; those that stay keep their standing, new ones begin anywhere in the round."""
        self._places = {key: self._places.get(key) or _Place(random.random()) for key in keys}

    def next(self, without: Collection[K] = ()) -> K | None:
        """The server whose turn it is, an ejected one only if there is no other; None if all are in ``without``."""
        able = {key: place for key, place in self._places.items() if key not in without}
        here = {key: place for key, place in able.items() if place.ejected_until is None}
        if not here:
            return min(able, key=lambda key: able[key].ejected_until or 0.0, default=None)
        weights = {key: self._weight(place) for key, place in here.items()}
        for key, place in here.items():
            place.credit += weights[key]
        chosen = max(here, key=lambda key: here[key].credit)
        here[chosen].credit -= sum(weights.values())
        return chosen

    def to_probe(self) -> K | None:
        """An ejected server whose time is over, for the caller to ask; ``answered`` or ``failed`` must follow."""
        now = self._clock()
        for key, place in self._places.items():
            if place.ejected_until is not None and place.ejected_until <= now and not place.probing:
                place.probing = True
                return key
        return None

    def answered(self, key: K, asked: float) -> None:
        """It has answered what it was asked then; if it was ejected before, it comes back slowly."""
        place = self._known(key, asked)
        if place is None:
            return
        if place.ejected_until is not None:
            place.ejected_until, place.changed, place.credit = None, self._clock(), 0.0
        elif self._weight(place) == 1:
            place.failures = 0
        place.probing = False

    def failed(self, key: K, asked: float) -> None:
        """It has not: out, for longer each time. What was asked before it was ejected is the same failure."""
        place = self._known(key, asked)
        if place is None:
            return
        now = self._clock()
        if place.ejected_until is None or place.ejected_until <= now:
            place.ejected_until, place.changed = now + min(EJECT_S * 2**place.failures, MAX_EJECT_S), now
            place.failures += 1
        place.probing = False

    def _known(self, key: K, asked: float) -> _Place | None:
        """Its place, if what it was asked then says anything of how it is now."""
        place = self._places.get(key)
        return None if place is None or (place.changed is not None and asked < place.changed) else place

    def _weight(self, place: _Place) -> float:
        if place.changed is None:
            return 1.0
        return min(1.0, max(LEAST_WEIGHT, (self._clock() - place.changed) / SLOW_START_S))
