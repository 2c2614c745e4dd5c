"""Manifests to samples, and samples to splits that never divide a work."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from reelkind.core.errors import DataError, LeakError
from reelkind.core.taxonomy.classes import CLASSES

from .exclusions import EXCLUSIONS_NAME, read_exclusions
from .grouping import related_to, work_groups
from .readings import NO_SUBCATEGORY, apply_readings, read_readings
from .sample import Sample
from .tables import Table, read_table

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.csv"
REQUIRED_COLUMNS = ("path", "class", "work")
SPLITS = ("train", "val", "test")


def read_samples(root: Path, sources: Sequence[str], optional: bool = False, readings: str = "") -> list[Sample]:
    """Every row of ``root/<source>/manifest.csv`` that ``exclusions.csv`` beside it does not exclude.

    Columns path, class and work; optionally subcategory (or subcategory46, which comes first), split, near_val,
    licence, sha256 and source_repo.

    Args:
        root: folder of the sources' folders.
        sources: their names.
        optional: whether a missing folder is passed over.
        readings: name of a file in ``root`` that corrects the manifests, see ``datasets.readings``; "" for none.

    Raises:
        DataError: if a manifest is missing (unless ``optional``) or malformed; the message names file and line.
    """
    samples: list[Sample] = []
    for source in sources:
        manifest = root / source / MANIFEST_NAME
        if not manifest.is_file():
            if optional:
                continue
            raise DataError(f"no {manifest}: --data must be the folder that holds {', '.join(sources)}")
        listed = read_manifest(manifest)
        excluded = {row.path for row in read_exclusions(manifest.parent) if row.exclude}
        kept = [sample for sample in listed if sample.path not in excluded]
        if len(kept) < len(listed):
            number = len(listed) - len(kept)
            logger.info("%s: %d of %d left out by %s", manifest, number, len(listed), EXCLUSIONS_NAME)
        samples += kept
    if not samples:
        raise DataError(f"no samples in {root}: the manifests of {', '.join(sources)} list none, or exclude all")
    return apply_readings(samples, read_readings(root / readings), root) if readings else samples


def read_manifest(path: Path) -> list[Sample]:
    """Every row of one manifest, excluded or not.

    Raises:
        DataError: if it is missing or malformed; the message names file and line.
    """
    return samples_of(read_table(path, REQUIRED_COLUMNS))


def samples_of(table: Table) -> list[Sample]:
    """Rows of a manifest as samples.

    Raises:
        DataError: if a cell cannot be right; the message names file and line.
    """
    samples = [_sample(row, table.path, table.where(i)) for i, row in enumerate(table.rows)]
    first: dict[Path, int] = {}
    for i, sample in enumerate(samples):
        if first.setdefault(sample.path, i) != i:
            raise DataError(f"{table.where(i)} lists {sample.path.name} again ({table.where(first[sample.path])})")
    return samples


def _sample(row: dict[str, str], manifest: Path, where: str) -> Sample:
    for name in REQUIRED_COLUMNS:
        if not row[name].strip():
            raise DataError(f"{where}: {name} is empty, every row needs {', '.join(REQUIRED_COLUMNS)}")
    class_name = row["class"].strip().lower()
    if class_name not in CLASSES:
        raise DataError(f"{where}: {row['path']} has class {row['class']!r} (known: {', '.join(CLASSES)})")
    split = row.get("split", "").strip().lower() or "train"
    if split not in SPLITS:
        raise DataError(f"{where}: {row['path']} has split {row['split']!r} (known: {', '.join(SPLITS)}, or empty)")
    sha256 = row.get("sha256", "").strip().lower()
    if sha256 and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise DataError(f"{where}: sha256 {row['sha256']!r} is not 64 hexadecimal digits: mend it or leave it empty")
    return Sample(
        path=manifest.parent / row["path"],
        label=CLASSES.index(class_name),
        work=row["work"].strip(),
        source=manifest.parent.resolve().name,
        split=split,
        near_val=row.get("near_val", "").strip().lower() == "yes",
        subcategory=_subcategory(row),
        licence=row.get("licence", "").strip(),
        sha256=sha256,
        repository=row.get("source_repo", "").strip(),
    )


def _subcategory(row: dict[str, str]) -> str:
    """The taxonomy's name of the finer kind if somebody gave it, else the collector's own."""
    read = row.get("subcategory46", "").strip()
    return row.get("subcategory", "").strip() if not read else "" if read == NO_SUBCATEGORY else read


def split_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples; training loses whatever shares a work or a repository with validation or test.

    Raises:
        DataError: if a side is empty.
        LeakError: if a work or a file is on two sides after all.
    """
    held_out = [i for i, sample in enumerate(samples) if sample.split != "train"]
    related = set(related_to(samples, held_out).tolist())
    val, test = ([sample for sample in samples if sample.split == split] for split in ("val", "test"))
    train = [sample for i, sample in enumerate(samples) if i not in related and not sample.near_val]
    if not train or not val:
        raise DataError(
            f"{len(train)} training and {len(val)} validation samples: both splits are needed "
            "(`reelkind dataset split` makes them)"
        )
    refuse_leaks(train, val, test)
    return train, val


def refuse_leaks(*sides: Sequence[Sample]) -> None:
    """Compare names of works and contents of files between every two sides.

    Raises:
        LeakError: if any is on more than one.
    """
    everything = [sample for side in sides for sample in side]
    group_of = dict(zip((sample.work for sample in everything), work_groups(everything), strict=True))
    works = [{group_of[sample.work]: sample.work for sample in side} for side in sides]
    hashes = [{sample.content_hash: sample.path for sample in side if sample.path.is_file()} for side in sides]
    for one, other in itertools.combinations(range(len(sides)), 2):
        shared = sorted(works[one].keys() & works[other].keys())
        if shared:
            names = [f"{works[one][group]!r} and {works[other][group]!r}" for group in shared[:5]]
            raise LeakError(f"works on both sides of the split: {', '.join(names)}; give them one split")
        for digest in hashes[one].keys() & hashes[other].keys():
            raise LeakError(
                f"{hashes[one][digest]} and {hashes[other][digest]} are the same file on both sides of the split; "
                "`reelkind dataset check` finds such pairs"
            )
