"""Where a user's caches are."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ReelkindError


class NoHomeError(ReelkindError):
    """This user has no home folder, as in a container under a number of its own."""


def user_cache(*parts: str) -> Path:
    """``$XDG_CACHE_HOME/reelkind/...``, by default below ``~/.cache``; nothing is made.

    Raises:
        NoHomeError: if there is neither.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME", "")).expanduser()
        if not base.is_absolute():  # to be ignored: https://specifications.freedesktop.org/basedir-spec
            base = Path("~/.cache").expanduser()
    except RuntimeError as error:
        raise NoHomeError(
            "there is no home folder for caches: set HOME or XDG_CACHE_HOME, or name a folder (--cache, --cache-dir)"
        ) from error
    return base.joinpath("reelkind", *parts)
