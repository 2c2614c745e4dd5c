"""One labelled file, and what can be said of many."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.core.taxonomy.classes import CLASSES, subcategories

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Sample:
    """One labelled clip or still.

    Attributes:
        path: the file.
        label: index in ``CLASSES``.
        work: what it was cut from; samples of a work never part.
        source: the manifest's folder, e.g. ``"clips"``.
        split: one of ``SPLITS``; ``"test"`` is neither trained nor tuned on.
        near_val: its show, game or repository also feeds the validation split.
        subcategory: finer kind, one of the taxonomy's or the collector's own; "" if unknown.
        licence: terms of use as the manifest has them; "" if unknown.
        sha256: hash of the file as the manifest has it, 64 lower-case hexadecimal digits; "" if it has none.
        repository: where the collector found it; what shares one shares cameras, encoders and taste. "" if unknown.
    """

    path: Path
    label: int
    work: str
    source: str
    split: str = "train"
    near_val: bool = False
    subcategory: str = ""
    licence: str = ""
    sha256: str = ""
    repository: str = ""

    @property
    def is_still(self) -> bool:
        """Whether it is a picture, not a video."""
        return self.path.suffix.lower() in PICTURE_SUFFIXES

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file: the manifest's if it has one (``reelkind dataset check`` verifies it), else computed."""
        return self.sha256 or content_hash(self.path)


def content_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: if it is missing, unreadable, or no regular file (a pipe would never end).
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def subcategory_labels(samples: Sequence[Sample]) -> np.ndarray:
    """Places in the taxonomy's list, int64 [N]; -1 for samples without one of its subcategories."""
    places = {(entry.class_name, entry.name): place for place, entry in enumerate(subcategories())}
    return np.array([places.get((CLASSES[sample.label], sample.subcategory), -1) for sample in samples], dtype=np.int64)
