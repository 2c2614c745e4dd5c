"""What can go wrong with a bulk job as a whole."""

from __future__ import annotations

from reelkind.core.errors import ReelkindError


class BulkError(ReelkindError):
    """A job cannot begin or go on; finished rows stay, and the same command goes on from them."""
