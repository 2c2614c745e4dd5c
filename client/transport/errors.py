"""What can go wrong between a client and its server, mapped once from gRPC and HTTP.

ReelkindError
├── VideoError                 the file cannot be read (core.errors)
└── ClientError                (core.errors)
    ├── InvalidOption          an argument of the client is of no use
    │   └── InvalidUrl         an address that is none
    ├── TlsFailed              no encrypted connection: certificates, or a server that does not encrypt
    ├── ServerUnavailable      nothing answers at that address, or it is shutting down
    ├── ServerBusy             the queue is full; trying later helps
    ├── ModelUnavailable       the server lacks the model, or is loading or restarting it
    ├── RequestTimeout         no answer within the deadline
    ├── RequestCancelled       the client was closed while it waited
    ├── RequestRejected        the server does not accept these frames
    │   └── RequestTooLarge    more bytes, frames or videos than a request may carry
    ├── AccessDenied           the server or a proxy before it wants other headers
    ├── ContractMismatch       what answers is not a reelkind server of this release
    └── ServerFailed           the server broke on this request
"""

from __future__ import annotations

import re

from reelkind.core.errors import ClientError as ClientError
from reelkind.core.errors import InvalidOption as InvalidOption

MAX_MESSAGE_CHARS = 300  # a server's message may be a whole traceback


class InvalidUrl(InvalidOption):
    """The address is neither ``host:port`` nor ``http://`` or ``https://``."""


class TlsFailed(ClientError):  # noqa: N818
    """No encrypted connection came about."""


class ServerUnavailable(ClientError):  # noqa: N818
    """Nothing answers at the address, or the server is shutting down."""


class ServerBusy(ClientError):  # noqa: N818
    """The server's queue is full.

    Attributes:
        retry_after_s: when trying again makes sense, by how long the last answers took; None where nobody has looked.
    """

    retry_after_s: float | None = None

    def with_hint(self, retry_after_s: float) -> ServerBusy:
        """The same error that says when to come back."""
        hinted = ServerBusy(f"{self}; try again in about {retry_after_s:.1f} s", self.status)
        hinted.retry_after_s = retry_after_s
        return hinted


class ModelUnavailable(ClientError):  # noqa: N818
    """The server answers but has no such model, or is loading or restarting it."""


class RequestTimeout(ClientError):  # noqa: N818
    """No answer within the deadline."""


class RequestCancelled(ClientError):  # noqa: N818
    """The client was closed while it waited."""


class RequestRejected(ClientError):  # noqa: N818
    """The server does not accept the request."""


class RequestTooLarge(RequestRejected):
    """More bytes, frames or videos than one request may carry."""


class AccessDenied(ClientError):  # noqa: N818
    """The server, or a proxy before it, wants other credentials."""


class ContractMismatch(ClientError):  # noqa: N818
    """What answers is not a reelkind server of this release."""


class ServerFailed(ClientError):  # noqa: N818
    """The server broke on this request."""


BY_STATUS: dict[str, type[ClientError]] = {
    "OK": ServerFailed,  # an error without an error
    "CANCELLED": RequestCancelled,
    "UNKNOWN": ServerFailed,
    "INVALID_ARGUMENT": RequestRejected,
    "DEADLINE_EXCEEDED": RequestTimeout,
    "NOT_FOUND": ModelUnavailable,
    "ALREADY_EXISTS": RequestRejected,
    "PERMISSION_DENIED": AccessDenied,
    "UNAUTHENTICATED": AccessDenied,
    "RESOURCE_EXHAUSTED": ServerBusy,
    "FAILED_PRECONDITION": RequestRejected,
    "ABORTED": ServerFailed,
    "OUT_OF_RANGE": RequestRejected,
    "UNIMPLEMENTED": ContractMismatch,
    "INTERNAL": ServerFailed,
    "UNAVAILABLE": ServerUnavailable,
    "DATA_LOSS": ServerFailed,
}
"""Every gRPC status, without ``StatusCode.``."""

BY_HTTP_STATUS: dict[int, str] = {
    # As google.rpc.Code and gRPC's own mapping of HTTP have it; 4xx and 5xx not named: see ``from_http``.
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status -> the gRPC status it amounts to."""

_BY_WORDING: tuple[tuple[str, type[ClientError]], ...] = (
    # Triton speaks of these under several statuses; lower case.
    ("larger than max", RequestTooLarge),
    ("http 413: ", RequestTooLarge),
    ("tls handshake failed", TlsFailed),
    ("hostname verification check failed", TlsFailed),
    ("exceeds maximum queue size", ServerBusy),
    ("request timeout expired", ServerBusy),  # it waited in the server's queue, not in a model
    ("protocol is restricted", AccessDenied),
    ("stub process", ModelUnavailable),  # a crashed Python backend; a supervisor reloads it
    ("is not healthy", ModelUnavailable),
    ("unknown model", ModelUnavailable),
    ("is not ready", ModelUnavailable),
    ("has no available versions", ModelUnavailable),
)

_WRAPPING = re.compile(
    r"failed to connect to all addresses; last error: \w+: (ipv[46]:\S+: )?(Failed to connect[^:]*: )?"
)
"""What gRPC puts around the system's reason."""

_MEANINGS: tuple[tuple[str, str], ...] = (
    # What gRPC and OpenSSL say (patterns, lower case), in words that tell what to do.
    ("expecting header 'reelkind-key'", "by HTTP it takes inference with its key only: use gRPC, or `--open-http`"),
    ("http1.x server", "this is an HTTP port: write http:// before it, or name the gRPC port, by default 8001"),
    ("wrong_version_number", "it does not encrypt on this port"),
    ("record layer failure", "it does not encrypt on this port"),
    ("hostname verification check failed", "its certificate is made out to another host"),
    ("hostname mismatch", "its certificate is made out to another host"),
    ("ip address mismatch", "its certificate is made out to another host"),
    ("certificate has expired", "its certificate has expired"),
    ("certificate is not yet valid", "its certificate is not valid yet: are the clocks right?"),
    ("certificate_verify_failed", "its certificate is not from an authority that is trusted: name the right one"),
    ("certificate required", "it asks for a certificate"),
    ("certificate_required", "it asks for a certificate"),
    ("eof occurred", "it closed the connection: perhaps it does not encrypt on this port, or asks for a certificate"),
    (
        "failed to connect.*socket closed",
        "it closed the connection: perhaps it is an HTTP port, encrypts, or asks for a certificate",
    ),
)

_ADVICE: dict[type[ClientError], str] = {
    TlsFailed: "no encrypted connection to {url}",
    ServerUnavailable: "no server answers at {url}; start one with `reelkind serve` or name another address",
    ServerBusy: "the server at {url} has a full queue",
    ModelUnavailable: "the server at {url} does not have the model ready",
    RequestTimeout: "no answer from {url} in time; raise the timeout or lower the load",
    RequestCancelled: "the request to {url} was cancelled",
    RequestRejected: "the server at {url} rejected the request",
    RequestTooLarge: "the request is too large for {url}; send fewer frames or videos at a time",
    AccessDenied: "the server at {url} denied access; pass its credentials as headers",
    ContractMismatch: "{url} is no Triton server",
    ServerFailed: "the server at {url} failed",
}


def from_status(status: str | None, said: str | None, url: str) -> ClientError:
    """The error of ours for a gRPC status, worded with the address and what the server said."""
    status = (status or "UNKNOWN").removeprefix("StatusCode.")
    said = " ".join((said or "").split())
    lowered = said.lower()
    kind = BY_STATUS.get(status, ServerFailed)
    kind = next((other for wording, other in _BY_WORDING if wording in lowered), kind)
    said = _WRAPPING.sub("", said)
    said = said if len(said) <= MAX_MESSAGE_CHARS else said[:MAX_MESSAGE_CHARS] + "…"
    said = next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, lowered)), said)
    return kind(_ADVICE[kind].format(url=url) + (f" ({said})" if said else ""), status)


def from_http(code: int, said: str | None, url: str) -> ClientError:
    """The error of ours for an HTTP status other than 200.

    Args:
        code: the status.
        said: what Triton says of it; None if the answer is not of its making.
        url: of the server.
    """
    others = {4: "INVALID_ARGUMENT", 5: "UNKNOWN"}
    status = BY_HTTP_STATUS.get(code) or others.get(code // 100, "UNIMPLEMENTED")
    if said is None and status == "NOT_FOUND":  # of the path, not of a model
        status = "UNIMPLEMENTED"
    return from_status(status, f"HTTP {code}: {said or ''}", url)
