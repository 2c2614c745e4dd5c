"""The errors a user may cause or meet: each message is a sentence for them, never a traceback."""

from __future__ import annotations

import os


class ReelkindError(Exception):
    """Base of all errors of reelkind; ``str()`` names the offending thing and the way out."""


class VideoError(ReelkindError):
    """A file cannot be read as video. ``str()`` names the file and the reason.

    Attributes:
        path: the file.
        reason: one sentence without the path.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)  # both, so that the error survives pickling between processes
        self.path = os.fspath(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class FetchError(VideoError):
    """A file cannot be fetched from where its URL says it is."""


class ConfigError(ReelkindError):
    """A training configuration is unreadable, contradicts itself or names something unknown."""


class DataError(ReelkindError):
    """The training data are missing, unreadable or too few; the message names the file."""


class LeakError(DataError):
    """A work, or a file, is on both sides of a split."""


class TrainingError(ReelkindError):
    """A training cannot go on; the message names stage, step and what to change."""


class ClientError(ReelkindError):
    """Base of all errors of the client.

    Attributes:
        status: the gRPC status behind it, e.g. ``"UNAVAILABLE"``, or that which HTTP's amounts to; None if the client
            noticed by itself.
    """

    def __init__(self, message: str, status: str | None = None) -> None:
        super().__init__(message, status)  # both, so that the error survives pickling
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class InvalidOption(ClientError):  # noqa: N818 (the tree names what happened, as httpx does)
    """An argument of the client is of no use."""
