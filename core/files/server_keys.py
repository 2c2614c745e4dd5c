"""The key to what a server on this machine does for its owner only, from who started it to who asks: a private file.

Who can read the file runs as the same user. Shared memory is the reason: whoever may register a region may name any of
the user's, and one that is cut short later ends tritonserver.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .user_cache import NoHomeError, user_cache
from .whole_files import write_whole

KEY_HEADER = "reelkind-key"


def keep_key(ports: Iterable[int], key: str) -> list[Path]:
    """Write the key of the server that listens on these ports, one file each; none where there is no folder for it."""
    paths: list[Path] = []
    with suppress(OSError, NoHomeError):
        for port in ports:
            path = _path(port)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, key, private=True)
            paths.append(path)
    return paths


def known_key(port: int) -> str | None:
    """The key of the server that listens on a port of this machine; None if there is none of this user."""
    with suppress(OSError, ValueError, NoHomeError):
        path = _path(port)
        if path.stat().st_uid == os.geteuid():
            return path.read_text(encoding="ascii")
    return None


def drop_key(paths: Iterable[Path], key: str) -> None:
    """Delete the files, but for those that another server has written since."""
    for path in paths:
        with suppress(OSError, ValueError):
            if path.read_text(encoding="ascii") == key:
                path.unlink()


def _path(port: int) -> Path:
    return user_cache("servers", f"key-{port}")
