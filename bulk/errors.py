"""What can go wrong with a bulk job as a whole, and with fetching one of its inputs."""

from __future__ import annotations

from reelkind.core.errors import ReelkindError, VideoError


class BulkError(ReelkindError):
    """A job cannot begin or go on; finished rows stay, and the same command goes on from them."""


class FetchError(VideoError):
    """An input cannot be fetched from where its URI says it is."""
