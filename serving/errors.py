"""What goes wrong between a model repository and a server that answers."""

from __future__ import annotations

from reelkind.core.errors import ReelkindError


class ServingError(ReelkindError):
    """The server cannot be prepared, started or kept running; the message is one sentence with the way out."""
