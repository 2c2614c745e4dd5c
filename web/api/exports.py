"""A finished job as JSON, CSV or WebVTT chapters, to keep."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response

from reelkind.core.taxonomy.classes import CLASSES

from ..jobs.tables import DONE, Job
from .jobs import find
from .problems import ProblemError

blueprint = Blueprint("exports", __name__, url_prefix="/api/jobs/<job_id>")


@blueprint.get("/result.json")
def as_json(job_id: str) -> Response:
    """Answer and timeline, whole."""
    job = _finished(job_id)
    body = {"result": job.result, "timeline": job.timeline, "options": _options(job)}
    return _file(job, "json", "application/json", json.dumps(body, indent=2) + "\n")


@blueprint.get("/result.csv")
def as_csv(job_id: str) -> Response:
    """A row for the file, then one a segment."""
    job = _finished(job_id)
    text = io.StringIO()
    columns = ["name", "event", "start_ms", "end_ms", "label", "confidence", *CLASSES]
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")  # RFC 4180
    writer.writeheader()
    for row in _rows(job):
        writer.writerow(row)
    return _file(job, "csv", "text/csv", text.getvalue())


@blueprint.get("/chapters.vtt")
def as_vtt(job_id: str) -> Response:
    """Segments as chapters, which players show."""
    job = _finished(job_id)
    if job.timeline is None:
        raise ProblemError(404, "This job has no timeline: ask for it with timeline=true.")
    cues = [
        f"{number}\n{_clock(segment['start_ms'])} --> {_clock(segment['end_ms'])}\n{segment['label'] or 'unsure'}\n"
        for number, segment in enumerate(job.timeline["segments"], 1)
    ]
    return _file(job, "vtt", "text/vtt", "\n".join(["WEBVTT\n", *cues]))


def _finished(job_id: str) -> Job:
    job = find(job_id)
    if job.status != DONE:
        raise ProblemError(409, f"This job has no answer to export: it is {job.status}.")
    return job


def _options(job: Job) -> dict[str, Any]:
    return {name: value for name, value in job.options.items() if name != "url"}


def _rows(job: Job) -> Iterator[dict[str, Any]]:
    name = job.name if job.name[:1] not in "=+-@" else f"'{job.name}"  # spreadsheets would run it
    if job.result is not None:
        yield {"name": name, "event": "video", **_judgement(job.result)}
    if job.timeline is not None:
        for segment in job.timeline["segments"]:
            times = {"start_ms": segment["start_ms"], "end_ms": segment["end_ms"]}
            yield {"name": name, "event": "segment", **times, **_judgement(segment)}


def _judgement(raw: dict[str, Any]) -> dict[str, Any]:
    scores = {name: f"{score:.6f}" for name, score in raw["scores"].items()}
    return {"label": raw["label"] or "", "confidence": f"{raw['confidence']:.6f}", **scores}


def _clock(time_ms: int) -> str:
    """WebVTT's hours, minutes, seconds.

    >>> _clock(3_723_400)
    '01:02:03.400'
    """
    seconds, milliseconds = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}"


def _file(job: Job, suffix: str, media_type: str, text: str) -> Response:
    response = Response(text, mimetype=media_type)
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(f'{job.name}.{suffix}', safe='')}"
    return response
