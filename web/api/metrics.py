"""Numbers for Prometheus: of the web process, and of the jobs, read from the database when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ..jobs.store import Store
from ..jobs.tables import STATUSES

_SLOW_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10)
_process = CollectorRegistry()
_requests = Counter("reelkind_web_requests", "Requests answered.", ["endpoint", "status"], registry=_process)
_seconds = Histogram(
    "reelkind_web_request_seconds", "Until an answer began.", ["endpoint"], registry=_process, buckets=_SLOW_S
)


class _Jobs(Collector):
    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        counts = self._store.counts()
        family = GaugeMetricFamily("reelkind_web_jobs", "Jobs in the database.", labels=["status"])
        for status in STATUSES:
            family.add_metric([status], counts.get(status, 0))
        yield family


class _Both(CollectorRegistry):
    def __init__(self, store: Store) -> None:
        super().__init__()
        self.register(_process)  # a registry collects as a collector does
        self.register(_Jobs(store))


def registry(store: Store) -> CollectorRegistry:
    """Everything there is to tell."""
    return _Both(store)


def install(app: Flask) -> None:
    """Count and time every request."""

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        endpoint = request.endpoint or "unknown"
        _requests.labels(endpoint, response.status_code).inc()
        _seconds.labels(endpoint).observe(time.perf_counter() - g.get("started", time.perf_counter()))
        return response
