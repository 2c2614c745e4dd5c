"""A second reading of samples: truer names of works, finer kinds, doubts. A CSV file for several manifests together.

Manifests say what their collectors knew. Somebody who then looks at every sample finds films under two names, pictures
on the wrong side of a split and kinds that nobody had asked for; this file keeps that apart from the manifests.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import CLASSES

from .tables import read_table

if TYPE_CHECKING:
    from .sample import Sample

logger = logging.getLogger(__name__)

REQUIRED_COLUMNS = ("set", "path")
NO_SUBCATEGORY = "none"  # read, and found to be of none of the 46
WRONG_CLASS, LEAK, NEAR_DUPLICATE, AMBIGUOUS = "wrong class", "leak", "near duplicate", "ambiguous"


@dataclass(frozen=True)
class Reading:
    """What was read of one sample; "" leaves what the manifest says.

    Attributes:
        work: the film, show, game or channel it really shows.
        subcategory: one of the taxonomy's, or ``NO_SUBCATEGORY``.
        class_name: the class it really is of.
        is_leak: whether it shows a work of another split.
        is_duplicate: whether another sample shows the same.
        is_ambiguous: whether readers would not agree on its class.
    """

    work: str = ""
    subcategory: str = ""
    class_name: str = ""
    is_leak: bool = False
    is_duplicate: bool = False
    is_ambiguous: bool = False


def read_readings(path: Path) -> dict[tuple[str, str], Reading]:
    """Readings by (set, path in its manifest).

    Columns set and path; optionally ``work_fixed``, ``subcategory46`` and ``flag``, of which several are divided by
    ";": ``wrong class: natural``, ``leak ...``, ``near duplicate ...``, ``ambiguous``; others are notes.

    Raises:
        DataError: if the file is missing or malformed, or names a class that there is not.
    """
    table = read_table(path, REQUIRED_COLUMNS)
    readings = {}
    for i, row in enumerate(table.rows):
        flags = [flag.strip().lower() for flag in row.get("flag", "").split(";")]
        class_name = next((flag.partition(":")[2].strip() for flag in flags if flag.startswith(WRONG_CLASS)), "")
        if class_name and class_name not in CLASSES:
            raise DataError(f"{table.where(i)}: flag names the class {class_name!r} (known: {', '.join(CLASSES)})")
        readings[row["set"].strip(), row["path"].strip()] = Reading(
            work=row.get("work_fixed", "").strip(),
            subcategory=row.get("subcategory46", "").strip(),
            class_name=class_name,
            is_leak=any(flag.startswith(LEAK) for flag in flags),
            is_duplicate=any(flag.startswith(NEAR_DUPLICATE) for flag in flags),
            is_ambiguous=any(flag.startswith(AMBIGUOUS) for flag in flags),
        )
    return readings


def apply_readings(samples: Sequence[Sample], readings: dict[tuple[str, str], Reading], root: Path) -> list[Sample]:
    """Samples as they were read: corrected, near duplicates and ambiguous stills left out.

    Ambiguous clips stay: what is hard to name is asked too, and there are few of them.

    Args:
        samples: as their manifests have them.
        readings: by (set, path in its manifest).
        root: folder of the sets' folders.
    """
    kept, left_out = [], Counter[str]()
    for sample in samples:
        reading = readings.get((sample.source, sample.path.relative_to(root / sample.source).as_posix()))
        if reading is None:
            kept.append(sample)
        elif reading.is_duplicate:
            left_out[NEAR_DUPLICATE] += 1
        elif reading.is_ambiguous and sample.is_still:
            left_out[AMBIGUOUS] += 1
        else:
            kept.append(_corrected(sample, reading))
    if left_out:
        logger.info("left out by their second reading: %s", dict(left_out))
    return kept


def _corrected(sample: Sample, reading: Reading) -> Sample:
    finer = reading.subcategory or sample.subcategory
    return replace(
        sample,
        work=reading.work or sample.work,
        label=CLASSES.index(reading.class_name) if reading.class_name else sample.label,
        subcategory="" if finer == NO_SUBCATEGORY else finer,
        near_val=sample.near_val or reading.is_leak,
    )
