"""Jobs as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..jobs.tables import FEATURES, QUEUED, Job


def shape(job: Job, positions: dict[str, int], *, brief: bool = False) -> dict[str, Any]:
    """A job for JSON.

    Args:
        job: the record.
        positions: from ``Store.positions``.
        brief: without windows of a timeline, which are long.
    """
    timeline = job.timeline
    if timeline is not None and brief:
        timeline = {name: value for name, value in timeline.items() if name != "windows"}
    has_upload = bool(job.upload) and job.kind != FEATURES
    base = f"/api/jobs/{job.id}"
    return {
        "id": job.id,
        "status": job.status,
        "position": positions.get(job.id) if job.status == QUEUED else None,
        "stage": job.stage,
        "progress": None if job.progress is None else round(job.progress, 3),
        "stages_ms": job.stages,
        "name": job.name,
        "kind": job.kind,
        "media_type": job.media_type,
        "options": {name: value for name, value in job.options.items() if name != "url"},
        "source": job.source or None,
        "attempts": job.attempts,
        "created": _time(job.created_at),
        "finished": _time(job.finished_at),
        "server_ms": None if job.finished_at is None else round((job.finished_at - job.created_at) * 1000, 1),
        "result": job.result,
        "timeline": timeline,
        "error": job.error,
        "video_url": f"{base}/video" if has_upload else None,
        "pictures": [{"time_ms": moment, "url": f"{base}/pictures/{moment}"} for moment in job.pictures],
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
