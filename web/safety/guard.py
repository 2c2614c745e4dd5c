"""Who may ask: the right host, the right token, no other site's page; before any view is reached.

* Host: on loopback only loopback's names, so that a name which an attacker points at 127.0.0.1 opens nothing.
* Token: where other machines can connect. ``Authorization: Bearer``, or a cookie that the page's form sets.
* Origin: a browser that sends one must send ours.
* CSRF: a request with the session's cookie which changes something must carry the page's token in ``X-CSRF-Token``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from flask import Request, Response

from ..settings import Settings, is_loopback

SESSION_COOKIE, TOKEN_COOKIE = "reelkind_session", "reelkind_token"
CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = frozenset({"/healthz", "/enter"})
_COOKIE_AGE_S = 30 * 86_400
_SESSION_CHARS = 43  # of 32 random bytes


class Guard:
    """Checks requests against the settings.

    Args:
        settings: of the application.
    """

    def __init__(self, settings: Settings) -> None:
        self._token, self._secret = settings.token, settings.secret
        self._loopback_only = is_loopback(settings.host)

    def is_known_host(self, request: Request) -> bool:
        """Whether the name in ``Host`` is one of ours."""
        return not self._loopback_only or is_loopback(urlsplit(f"//{request.host}").hostname or "")

    def is_foreign(self, request: Request) -> bool:
        """Whether another site's page makes this request."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return request.method not in SAFE_METHODS
        origin = request.headers.get("Origin")
        return origin is not None and urlsplit(origin).netloc != request.host

    def has_token(self, request: Request) -> bool:
        """Whether the caller has shown the token, or needs none."""
        if not self._token:
            return True
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(shown.strip()):
            return True
        return hmac.compare_digest(request.cookies.get(TOKEN_COOKIE, "").encode(), self._sign("token", self._token))

    def is_token(self, shown: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(shown.encode(), self._token.encode())

    def has_csrf_token(self, request: Request) -> bool:
        """Whether a request that changes something comes from our page, or from no browser's session at all."""
        session = session_of(request)
        has_cookie = bool(session) or TOKEN_COOKIE in request.cookies
        if request.method in SAFE_METHODS or not has_cookie:
            return True
        shown = request.headers.get(CSRF_HEADER, "")
        return hmac.compare_digest(shown.encode(), self.csrf_token(session).encode())

    def csrf_token(self, session: str) -> str:
        """What our page sends along, in a session."""
        return self._sign("csrf", session).decode()

    def set_session(self, request: Request, response: Response) -> str:
        """The browser's session; a new one if it has none."""
        session = session_of(request) or secrets.token_urlsafe(32)
        self._set(request, response, SESSION_COOKIE, session)
        return session

    def set_token(self, request: Request, response: Response) -> None:
        """Let a browser in from now on."""
        self._set(request, response, TOKEN_COOKIE, self._sign("token", self._token).decode())

    def _set(self, request: Request, response: Response, name: str, value: str) -> None:
        response.set_cookie(
            name, value, max_age=_COOKIE_AGE_S, httponly=True, samesite="Strict", secure=request.is_secure
        )

    def _sign(self, purpose: str, value: str) -> bytes:
        return hmac.new(self._secret, f"{purpose}:{value}".encode(), hashlib.sha256).hexdigest().encode()


def session_of(request: Request) -> str:
    """The browser's session; empty if it has none."""
    session = request.cookies.get(SESSION_COOKIE, "")
    return session if len(session) == _SESSION_CHARS else ""


def owner_of(request: Request) -> str:
    """The session's name in the database, from which the cookie cannot be made."""
    session = session_of(request)
    return hashlib.sha256(session.encode()).hexdigest() if session else ""
