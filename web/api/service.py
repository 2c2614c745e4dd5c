"""What is here and how it fares: models and samples, health, metrics, the description of the API."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from reelkind.client import ClientError

from ..context import context
from ..jobs.samples import about, samples
from . import metrics
from .openapi import document
from .problems import ProblemError

blueprint = Blueprint("service", __name__)


@blueprint.get("/api/models")
def models() -> dict[str, Any]:
    """Who may be asked, what is at hand, what is taken."""
    at = context()
    try:
        groups = at.server.models()
    except ClientError:
        raise ProblemError(
            503, "The inference server does not answer yet: try again in a few seconds.", {"Retry-After": "3"}
        ) from None
    limits = at.settings.limits
    return {
        "models": groups,
        "samples": [{"name": name, "about": about(name)} for name in samples()],
        "limits": {"upload_bytes": limits.upload_bytes, "duration_s": limits.duration_s, "queued": limits.queued},
        "fetch_urls": at.settings.fetch_urls,
    }


@blueprint.get("/healthz")
def health() -> dict[str, str]:
    """The web process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def ready() -> dict[str, str]:
    """Jobs can be taken and answered."""
    at = context()
    at.store.state()
    if not at.server.is_ready():
        raise ProblemError(503, "The inference server does not answer.", {"Retry-After": "3"})
    return {"status": "ready"}


@blueprint.get("/metrics")
def prometheus() -> Response:
    """For Prometheus."""
    return Response(generate_latest(metrics.registry(context().store)), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/api/openapi.json")
def openapi() -> dict[str, Any]:
    """OpenAPI 3.1."""
    return document()
