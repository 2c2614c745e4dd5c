"""What files were when they were made: ``SHA256SUMS`` in their folder, as ``sha256sum --check`` reads it.

Copied into model repositories, where the Python of a server runs it, 3.10 perhaps, with its standard library alone.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

SUMS_NAME = "SHA256SUMS"
_BLOCK_BYTES = 1 << 20
_SEPARATOR = "  "  # coreutils: a space, then a space for text or an asterisk for binary, which Unix does not tell apart


def record(path: Path) -> None:
    """Note what a file is now; what is noted of others in its folder stays.

    Raises:
        OSError: if either cannot be read or written.
    """
    from .whole_files import write_whole

    sums = _read(path.parent) | {path.name: sha256_of(path)}
    lines = (f"{digest}{_SEPARATOR}{name}\n" for name, digest in sorted(sums.items()))
    write_whole(path.parent / SUMS_NAME, "".join(lines))


def is_as_recorded(path: Path) -> bool:
    """Whether a file is what was noted; where nothing was, it is taken for that.

    Raises:
        OSError: if it cannot be read.
    """
    noted = _read(path.parent).get(path.name)
    return noted is None or noted == sha256_of(path)


def changed_in(folder: Path) -> list[str]:
    """Names of the files of a folder that are missing or not what was noted.

    Raises:
        OSError: if one cannot be read.
    """
    sums = _read(folder)
    return [name for name, noted in sums.items() if not (folder / name).is_file() or sha256_of(folder / name) != noted]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        OSError: if it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _read(folder: Path) -> dict[str, str]:
    try:
        text = (folder / SUMS_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    found = (line.partition(" ") for line in text.splitlines())
    return {name[1:]: digest for digest, _, name in found if name}
