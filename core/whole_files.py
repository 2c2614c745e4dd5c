"""Bytes to a file that nobody ever sees a part of."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

PART_SUFFIX = ".reelkind-part"  # of files that are being written


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, in the place of one that is there.

    Raises:
        OSError: if it cannot be written; what was there is still there then.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=PART_SUFFIX, delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.chmod(file.name, 0o666 & ~_umask())  # noqa: PTH101 (temporary files are private)
            os.replace(file.name, path)  # noqa: PTH105
        except BaseException:
            with suppress(OSError):
                os.unlink(file.name)  # noqa: PTH108
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
