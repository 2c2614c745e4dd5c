"""Errors as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"

logger = logging.getLogger(__name__)


class ProblemError(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        detail: a sentence for people: what is wrong, and the way out.
        headers: to send with it.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers or {}

    def response(self) -> Response:
        """As HTTP sends it."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return Response(json.dumps(body), self.status, self.headers, mimetype=MEDIA_TYPE)


def install(app: Flask) -> None:
    """Turn every error of the application into a problem."""
    app.register_error_handler(ProblemError, ProblemError.response)
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(Exception, _of_a_bug)


def _of_http(error: HTTPException) -> Response:
    if error.response is not None and isinstance(error.response, Response):
        return error.response
    headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Content-Range", "Location")}
    return ProblemError(error.code or 500, error.description or "", headers).response()


def _of_a_bug(error: Exception) -> Response:
    logger.exception("a request failed", exc_info=error)
    return ProblemError(500, "Something is wrong here, not with your request; the log has it.").response()
