"""What can go wrong with records, the look-up and the downloader."""

from __future__ import annotations

from reelkind.core.errors import DataError, ReelkindError


class RecordError(DataError):
    """A TFRecord file is unreadable, truncated or corrupt; the message names the file and the offset in bytes."""


class WorkspaceError(DataError):
    """A file of the working folder is missing, damaged, in use or not of our making."""


class LookupServiceError(ReelkindError):
    """The look-up of YouTube ids does not answer; what was answered before is kept."""


class FetchError(ReelkindError):
    """yt-dlp is missing or refuses to go on; what was fetched before is kept."""
