"""Server-sent events: a job, or all of a session, whenever something about them changes.

Each event is a whole job, so that a browser that reconnects misses nothing and needs no numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence

from flask import Blueprint, Response, request

from ..context import Context, context
from ..jobs.tables import OPEN, Job
from ..safety.guard import owner_of
from .jobs import find
from .problems import ProblemError
from .shapes import shape

blueprint = Blueprint("events", __name__, url_prefix="/api")

MEDIA_TYPE = "text/event-stream"
_HEARTBEAT_S = 15.0
_LONGEST_S = 3600.0  # then the browser comes again
_RETRY_MS = 1000


@blueprint.get("/jobs/<job_id>/events")
def of_job(job_id: str) -> Response:
    """One job until it is over."""
    find(job_id)
    at = context()

    def look() -> Sequence[Job]:
        job = at.store.get(job_id)
        return [] if job is None else [job]

    return _stream(at, look, ends=True)


@blueprint.get("/events")
def of_session() -> Response:
    """All jobs of the browser's session."""
    at, owner = context(), owner_of(request)
    return _stream(at, lambda: at.store.of_owner(owner), ends=False)


def _stream(at: Context, look: Callable[[], Sequence[Job]], *, ends: bool) -> Response:
    if not at.feed.join():
        raise ProblemError(503, "Too many pages listen: look at the job itself instead.", {"Retry-After": "5"})
    response = Response(_events(at, look, ends=ends), mimetype=MEDIA_TYPE)
    response.headers["X-Accel-Buffering"] = "no"  # proxies of nginx's kind
    response.call_on_close(at.feed.leave)
    return response


def _events(at: Context, look: Callable[[], Sequence[Job]], *, ends: bool) -> Iterator[str]:
    told: dict[str, str] = {}
    seen, started, spoke = (-1.0, -1), time.monotonic(), time.monotonic()
    yield f"retry: {_RETRY_MS}\n\n"
    while time.monotonic() - started < _LONGEST_S:
        seen = at.feed.wait(seen, 1.0)
        jobs = look()
        positions = at.store.positions()
        for job in reversed(jobs):
            data = json.dumps(shape(job, positions, brief=True), sort_keys=True)
            if told.get(job.id) != data:
                told[job.id] = data
                yield f"event: job\ndata: {data}\n\n"
                spoke = time.monotonic()
        if ends and all(job.status not in OPEN for job in jobs):
            return
        if time.monotonic() - spoke > _HEARTBEAT_S:  # finds out who has gone
            yield ": still here\n\n"
            spoke = time.monotonic()
