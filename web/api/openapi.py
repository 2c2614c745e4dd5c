"""The API described in OpenAPI 3.1; a test holds it against the routes and the answers."""

from __future__ import annotations

from typing import Any

from reelkind.core.specs import TTA

from ..jobs.tables import KINDS, STATUSES
from .problems import MEDIA_TYPE as PROBLEM

_NUMBER, _STRING, _BOOLEAN = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
_NAMES = {"type": "array", "items": _STRING}
_SCORES = {"type": "object", "additionalProperties": _NUMBER}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(properties: dict[str, Any], *, about: str = "", optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    described = {"description": about} if about else {}
    return {"type": "object", "properties": properties, "required": required, **described}


_RESULT = _object(
    {
        "path": _or_null(_STRING),
        "label": _or_null(_STRING),
        "confidence": _NUMBER,
        "reason": _or_null(_STRING),
        "scores": _SCORES,
        "timings_ms": _SCORES,
        "model": {"type": "object"},
        "from_cache": {"type": "boolean", "description": "Whether features kept from before were used."},
        "warnings": {**_NAMES, "description": "Why one label may say too little: frames that disagree."},
        "attention": {"type": "array", "items": _NUMBER},
        "frame_scores": _or_null({"type": "array", "items": {"type": "array", "items": _NUMBER}}),
        "times_ms": _or_null({"type": "array", "items": {"type": "integer"}}),
        "subcategories": _or_null({"type": "object", "description": "Where the bundle answers them."}),
        "error": {"type": "null"},
    },
    about="As `reelkind classify --jsonl --attention` prints it; `label` is null where there is a `reason` for none.",
    optional=("subcategories", "warnings", "frame_scores"),
)
_STRETCH = {
    "start_ms": {"type": "integer"},
    "end_ms": {"type": "integer"},
    "label": _or_null(_STRING),
    "confidence": _NUMBER,
    "scores": _SCORES,
}
_TIMELINE = _object(
    {
        "duration_ms": {"type": "integer"},
        "label": _or_null(_STRING),
        "confidence": _NUMBER,
        "scores": _SCORES,
        "shares": _SCORES,
        "mixed": _BOOLEAN,
        "segments": {"type": "array", "items": _object(_STRETCH)},
        "windows": {"type": "array", "items": _object(_STRETCH)},
        "error": _or_null(_STRING),
    },
    about="What the video shows when; `windows` only with GET /api/jobs/{id}.",
    optional=("windows",),
)
_OPTIONS = _object(
    {
        "member": _or_null(_STRING),
        "tta": {"enum": list(TTA)},
        "abstain": {"anyOf": [_BOOLEAN, _NUMBER]},
        "timeline": _BOOLEAN,
    }
)
_JOB = _object(
    {
        "id": _STRING,
        "status": {"enum": list(STATUSES)},
        "position": _or_null({"type": "integer", "description": "1 is next; null unless queued."}),
        "stage": {"enum": ["queued", "fetch", "decode", "server", "done"]},
        "progress": _or_null({**_NUMBER, "description": "Share of the stage, 0 .. 1."}),
        "stages_ms": _SCORES,
        "name": _STRING,
        "kind": {"enum": list(KINDS)},
        "media_type": _STRING,
        "options": {"$ref": "#/components/schemas/Options"},
        "source": _or_null(_STRING),
        "attempts": {"type": "integer"},
        "created": {"type": "string", "format": "date-time"},
        "finished": _or_null({"type": "string", "format": "date-time"}),
        "server_ms": _or_null({**_NUMBER, "description": "From the job's arrival to its end."}),
        "result": _or_null({"$ref": "#/components/schemas/Result"}),
        "timeline": _or_null({"$ref": "#/components/schemas/Timeline"}),
        "error": _or_null({**_STRING, "description": "A sentence for people."}),
        "video_url": _or_null(_STRING),
        "pictures": {"type": "array", "items": _object({"time_ms": {"type": "integer"}, "url": _STRING})},
    }
)
_PROBLEM = _object(
    {"type": _STRING, "title": _STRING, "status": {"type": "integer"}, "detail": _STRING}, about="RFC 9457."
)
_MODEL = _object(
    {
        "name": _or_null(_STRING),
        "default": _BOOLEAN,
        "members": _NAMES,
        "untrained": _NAMES,
        "tta": {"type": "array", "items": {"enum": list(TTA)}},
        "num_frames": {"type": "integer"},
        "frame_size_px": {"type": "integer"},
        "classes": _NAMES,
        "abstain_below": _or_null(_NUMBER),
        "weights": _NAMES,
    }
)
_MODELS = _object(
    {
        "models": {"type": "array", "items": _MODEL},
        "samples": {"type": "array", "items": _object({"name": _STRING, "about": _STRING})},
        "limits": _object({"upload_bytes": {"type": "integer"}, "duration_s": _NUMBER, "queued": {"type": "integer"}}),
        "fetch_urls": _BOOLEAN,
    }
)
_FORM = {
    "type": "object",
    "description": "Exactly one of file, sample, source and url.",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "A video, a picture or a features file."},
        "sample": {"type": "string", "description": "Name of a sample; GET /api/models lists them."},
        "source": {"type": "string", "description": "Id of a job whose file is asked about again."},
        "url": {"type": "string", "description": "A public web address, where that is switched on."},
        "member": {"type": "string", "description": "Who answers; the server's default member if missing."},
        "tta": {"enum": list(TTA), "default": "off"},
        "abstain": {"type": "string", "default": "false", "description": "true, false, or a confidence from 0 to 1."},
        "timeline": {"enum": ["true", "false"], "default": "false"},
    },
}
_ID = {"name": "job_id", "in": "path", "required": True, "schema": _STRING}
_MOMENT = {"name": "time_ms", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
_JOB_REF = {"$ref": "#/components/schemas/Job"}


def _answer(about: str, schema: dict[str, Any] | None = None, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": about, "content": {media_type: {"schema": schema or {}}}}


def _problems(*statuses: int) -> dict[str, Any]:
    """The errors of an operation; everyone may meet those of the guard."""
    about = {
        400: "Not HTTP as it should be.",
        401: "The token is wanted.",
        403: "Another site's page, a page that is too old, or switched off here.",
        404: "Nothing of this name.",
        409: "Not in this state of the job.",
        413: "Too large.",
        415: "No video, no picture, no features file; or no form.",
        416: "Not within the file.",
        421: "Not a name of this host.",
        422: "A field is of no use.",
        429: "Too often.",
        503: "Try again after Retry-After seconds.",
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {str(status): _answer(about[status], schema, PROBLEM) for status in (400, 401, 403, 421, 429, *statuses)}


def _operation(
    about: str, answers: dict[str, Any], *problems: int, parameters: tuple[dict[str, Any], ...] = (), **more: Any
) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": about, "responses": {**answers, **_problems(*problems)}, **more}
    return {**found, "parameters": list(parameters)} if parameters else found


def _file(about: str, media_type: str, *problems: int, partial: bool = False) -> dict[str, Any]:
    parameters = (_ID, _MOMENT) if "picture" in about else (_ID,)
    answers = {"200": _answer(about, media_type=media_type)}
    if partial:
        answers |= {"206": _answer("A part of it.", media_type=media_type), "304": {"description": "Unchanged."}}
        problems += (416,)
    return _operation(about, answers, 404, *problems, parameters=parameters)


def document() -> dict[str, Any]:
    """The whole description."""
    one = {"200": _answer("The job.", _JOB_REF)}
    form = {media: {"schema": _FORM} for media in ("multipart/form-data", "application/x-www-form-urlencoded")}
    created = {"202": {**_answer("In the queue.", _JOB_REF), "headers": {"Location": {"schema": _STRING}}}}
    listed = _answer("Latest first.", _object({"jobs": {"type": "array", "items": _JOB_REF}}))
    stream = {"200": _answer("Events `job`, each a whole job.", {"type": "string"}, "text/event-stream")}
    said = _object({"status": _STRING})
    paths = {
        "/api/jobs": {
            "post": _operation(
                "Classify a file", created, 413, 415, 422, 503, requestBody={"required": True, "content": form}
            ),
            "get": _operation("Jobs of the browser's session", {"200": listed}),
        },
        "/api/jobs/{job_id}": {
            "get": _operation("One job", one, 404, parameters=(_ID,)),
            "delete": _operation("Give a job up", one, 404, parameters=(_ID,)),
        },
        "/api/jobs/{job_id}/events": {
            "get": _operation("One job until it is over, as server-sent events", stream, 404, 503, parameters=(_ID,))
        },
        "/api/jobs/{job_id}/video": {"get": _file("What was uploaded", "*/*", partial=True)},
        "/api/jobs/{job_id}/pictures/{time_ms}": {"get": _file("A picture of a moment", "image/jpeg", partial=True)},
        "/api/jobs/{job_id}/result.json": {"get": _file("The answer to keep", "application/json", 409)},
        "/api/jobs/{job_id}/result.csv": {"get": _file("The answer as a table", "text/csv", 409)},
        "/api/jobs/{job_id}/chapters.vtt": {"get": _file("Segments as WebVTT chapters", "text/vtt", 409)},
        "/api/events": {"get": _operation("All jobs of the browser's session, as server-sent events", stream, 503)},
        "/api/models": {"get": _operation("Who may be asked, samples, limits", {"200": _answer("All.", _MODELS)}, 503)},
        "/api/openapi.json": {"get": _operation("This document", {"200": _answer("OpenAPI 3.1.")})},
        "/healthz": {"get": _operation("The web process answers", {"200": _answer("Yes.", said)})},
        "/readyz": {"get": _operation("Jobs can be answered", {"200": _answer("Yes.", said)}, 503)},
        "/metrics": {"get": _operation("For Prometheus", {"200": _answer("Text.", media_type="text/plain")})},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "reelkind", "version": "1", "description": "What kind of picture a video is, and why."},
        "paths": paths,
        "components": {
            "schemas": {
                "Job": _JOB,
                "Options": _OPTIONS,
                "Result": _RESULT,
                "Timeline": _TIMELINE,
                "Problem": _PROBLEM,
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }
