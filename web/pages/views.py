"""The page, and the form that asks for the token."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from reelkind.core.taxonomy.classes import CLASSES, DESCRIPTIONS

from ..api.problems import ProblemError
from ..context import context

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> Response:
    """The page; makes the browser's session, whose CSRF token is in it."""
    guard = context().guard
    response = make_response()
    session = guard.set_session(request, response)
    classes = [(name, DESCRIPTIONS[name]) for name in CLASSES]
    response.set_data(render_template("index.html", csrf_token=guard.csrf_token(session), classes=classes))
    return response


@blueprint.post("/enter")
def enter() -> BaseResponse:
    """Let a browser in that shows the token."""
    at = context()
    if at.new_jobs.take(request.remote_addr or ""):  # guesses are as rare as jobs
        raise ProblemError(429, "Too many tries from your address: wait a little.", {"Retry-After": "5"})
    if at.settings.token and not at.guard.is_token(request.form.get("token", "")):
        return ask_for_token(wrong=True)
    response = redirect("/", 303)
    if at.settings.token:
        at.guard.set_token(request, response)  # type: ignore[arg-type]
    return response


def ask_for_token(*, wrong: bool = False) -> Response:
    """A form for it."""
    return make_response(render_template("enter.html", wrong=wrong), 401)
