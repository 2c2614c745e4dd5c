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
