"""Settings to a Flask application."""

from __future__ import annotations

from flask import Flask, Response, request
from werkzeug.wrappers import Response as BaseResponse

from .api import events, exports, jobs, metrics, problems, service
from .api.problems import ProblemError
from .api.uploads import StreamingRequest
from .context import Context, context
from .pages import views
from .safety.guard import OPEN_PATHS
from .safety.headers import secure
from .settings import Settings


class Application(Flask):
    """Flask whose requests stream their files to disk."""

    request_class = StreamingRequest


def create_app(settings: Settings) -> Flask:
    """Make the application; one a process.

    Raises:
        SettingsError: if the data folder is of no use.
    """
    settings.prepare()
    app = Application(__name__)
    app.extensions["reelkind_settings"] = settings
    app.extensions["reelkind"] = Context.of(settings)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.before_request(_guard)
    metrics.install(app)
    for module in (jobs, events, exports, service, views):
        app.register_blueprint(module.blueprint)
    problems.install(app)
    app.after_request(_finish)
    app.teardown_request(_clean_up)
    return app


def _guard() -> BaseResponse | None:
    """Turn away who must not ask, before anything of the request is read."""
    at = context()
    if not at.guard.is_known_host(request):
        raise ProblemError(421, "This page is for this machine: open it as http://localhost or http://127.0.0.1.")
    if at.guard.is_foreign(request):
        raise ProblemError(403, "Requests from other sites' pages are refused.")
    wait_s = at.requests.take(request.remote_addr or "")
    if wait_s:
        raise ProblemError(429, "Too many requests from your address: wait a little.", {"Retry-After": "1"})
    if request.path in OPEN_PATHS or request.endpoint == "static":
        return None
    if not at.guard.has_token(request):
        if request.endpoint == "pages.index":
            return views.ask_for_token()
        raise ProblemError(
            401, "Show the token: Authorization: Bearer TOKEN.", {"WWW-Authenticate": 'Bearer realm="reelkind"'}
        )
    if not at.guard.has_csrf_token(request):
        raise ProblemError(403, "The page is too old, or not ours: load it again.")
    return None


def _finish(response: Response) -> Response:
    if request.method not in ("GET", "HEAD"):
        request.drain()  # type: ignore[attr-defined]
    return secure(response)


def _clean_up(error: BaseException | None) -> None:
    del error
    request.drop_uploads()  # type: ignore[attr-defined]
