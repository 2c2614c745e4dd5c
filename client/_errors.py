"""What can go wrong between a client and its server, mapped once from gRPC.

ReelkindError
├── VideoError                 the file cannot be read (core.errors)
└── ClientError
    ├── InvalidUrl             not host:port
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

from typing import Protocol

from reelkind.core.errors import ReelkindError

MAX_MESSAGE_CHARS = 300  # a server's message may be a whole traceback


class ClientError(ReelkindError):
    """Base of all errors of the client.

    Attributes:
        status: the gRPC status behind it, e.g. ``"UNAVAILABLE"``; None if the client noticed by itself.
    """

    def __init__(self, message: str, status: str | None = None) -> None:
        super().__init__(message, status)  # both, so that the error survives pickling
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidUrl(ClientError):  # noqa: N818 (the tree names what happened, as httpx does)
    """The address is not ``host:port``."""


class ServerUnavailable(ClientError):  # noqa: N818
    """Nothing answers at the address, or the server is shutting down."""


class ServerBusy(ClientError):  # noqa: N818
    """The server's queue is full."""


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


class TritonError(Protocol):
    """What is used of ``tritonclient.utils.InferenceServerException``."""

    def status(self) -> str | None: ...

    def message(self) -> str | None: ...


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

_BY_WORDING: tuple[tuple[str, type[ClientError]], ...] = (
    # Triton speaks of these under several statuses; lower case.
    ("larger than max", RequestTooLarge),
    ("exceeds maximum queue size", ServerBusy),
    ("request timeout expired", ServerBusy),  # it waited in the server's queue, not in a model
    ("stub process", ModelUnavailable),  # a crashed Python backend; a supervisor reloads it
    ("is not healthy", ModelUnavailable),
    ("unknown model", ModelUnavailable),
    ("is not ready", ModelUnavailable),
    ("has no available versions", ModelUnavailable),
)

_ADVICE: dict[type[ClientError], str] = {
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


def from_triton(error: TritonError, url: str) -> ClientError:
    """The error of ours for one of tritonclient's, worded with the address and what the server said."""
    status = (error.status() or "UNKNOWN").removeprefix("StatusCode.")
    said = " ".join((error.message() or "").split())
    kind = BY_STATUS.get(status, ServerFailed)
    kind = next((other for wording, other in _BY_WORDING if wording in said.lower()), kind)
    if said.startswith("failed to connect to all addresses"):
        said = said.rpartition(": ")[2]  # gRPC wraps the system's reason three times
    said = said if len(said) <= MAX_MESSAGE_CHARS else said[:MAX_MESSAGE_CHARS] + "…"
    if "http1.x server" in said.lower():
        said = "this is an HTTP port; Triton's gRPC port is 8001 unless configured otherwise"
    return kind(_ADVICE[kind].format(url=url) + (f" ({said})" if said else ""), status)
