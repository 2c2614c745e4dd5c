"""Executions that models have counted to whether a busy ensemble still computes.

Who is refused because a queue is full learns nothing about health, and the ensemble that was asked may have no traffic
of its own while others keep its models busy. So the models themselves are looked at: those that may refuse, as it is
there that requests pile up; those behind them may have nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from .control import CanaryError, Control
from .models import composing_models

STALLED_S = 180.0  # longer than the largest requests take on two cores


class Counting(Protocol):
    """What is needed of a server."""

    configs: dict[str, Any]

    @property
    def control(self) -> Control:
        """Calls to the server."""
        ...


class Stalling:
    """Remembers what the models of each ensemble had computed, and since when that has not changed."""

    def __init__(self, server: Counting) -> None:
        self._server = server
        self._seen: dict[str, tuple[Mapping[str, int], float]] = {}
        self._limited: dict[str, bool] = {}

    def forget(self, ensemble: str | None = None) -> None:
        """Begin anew for an ensemble, or for all."""
        if ensemble is None:
            self._seen.clear()
        else:
            self._seen.pop(ensemble, None)

    def has_stalled(self, ensemble: str) -> bool:
        """Whether none of its models has computed anything for ``STALLED_S`` of looks, or the server does not say."""
        try:
            counts = {model: self._server.control.num_executions(model) for model in self._where_it_waits(ensemble)}
        except CanaryError:
            return True
        before, since = self._seen.get(ensemble, ({}, 0.0))
        if counts != before:
            self._seen[ensemble] = counts, time.monotonic()
            return False
        return time.monotonic() - since >= STALLED_S

    def _where_it_waits(self, ensemble: str) -> list[str]:
        models = sorted(composing_models(self._server.configs[ensemble]))
        return [model for model in models if self._may_refuse(model)] or models

    def _may_refuse(self, model: str) -> bool:
        if model not in self._limited:
            policy = self._server.control.config(model).dynamic_batching.default_queue_policy
            self._limited[model] = policy.max_queue_size > 0
        return self._limited[model]
