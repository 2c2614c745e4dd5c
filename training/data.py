"""Manifests to samples, and samples to splits that never divide a work."""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.core.taxonomy import CLASSES

from .config import SamplingConfig
from .datasets.exclusions import EXCLUSIONS_NAME, read_exclusions
from .datasets.tables import Table, read_table
from .errors import DataError, LeakError

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.csv"
REQUIRED_COLUMNS = ("path", "class", "work")
SPLITS = ("train", "val", "test")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png")
MIN_KEY_LENGTH = 6  # shorter names ("cars", "up") are part of too many others to mean the same work
MIN_INNER_KEY_LENGTH = 8  # ... and inside a longer name, only this much is telling


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

    @property
    def is_still(self) -> bool:
        """Whether it is a picture, not a video."""
        return self.path.suffix.lower() in PICTURE_SUFFIXES

    @property
    def content_hash(self) -> str:
        """SHA-256 of the file: the manifest's if it has one (``reelkind dataset check`` verifies it), else computed."""
        return self.sha256 or content_hash(self.path)


def read_samples(root: Path, sources: Sequence[str], optional: bool = False) -> list[Sample]:
    """Every row of ``root/<source>/manifest.csv`` that ``exclusions.csv`` beside it does not exclude.

    Columns path, class and work; optionally subcategory, split, near_val, licence and sha256.

    Raises:
        DataError: if a manifest is missing (unless ``optional``) or malformed; the message names file and line.
    """
    samples = []
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
    return samples


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
        subcategory=row.get("subcategory", "").strip(),
        licence=row.get("licence", "").strip(),
        sha256=sha256,
    )


def work_groups(samples: Sequence[Sample]) -> list[str]:
    """A group for every sample; works whose names contain one another ("simpsons", "The Simpsons") share one."""
    keys = {_work_key(sample.work) for sample in samples}
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    contained = [(inner, key) for key in keys for inner in _names_inside(key) & keys]
    for inner, outer in sorted(contained):
        parent[root(outer)] = root(inner)
    return [root(_work_key(sample.work)) for sample in samples]


def _names_inside(key: str) -> set[str]:
    """Parts of a key that would mean the same work, if they were keys themselves."""
    starts = {key[:end] for end in range(MIN_KEY_LENGTH, len(key))}
    parts = range(MIN_INNER_KEY_LENGTH, len(key))
    return starts | {key[start : start + size] for size in parts for start in range(len(key) - size + 1)}


def _work_key(work: str) -> str:
    """Letters and digits of any script, without case and accents; names without any are kept as they are."""
    plain = unicodedata.normalize("NFKD", work.lower().removeprefix("the "))
    return "".join(char for char in plain if char.isalnum()) or work


def split_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples; training loses whatever is near validation or test.

    Raises:
        DataError: if a side is empty.
        LeakError: if a work or a file is on two sides after all.
    """
    groups = work_groups(samples)
    held_out = {group for sample, group in zip(samples, groups, strict=True) if sample.split != "train"}
    val, test = ([sample for sample in samples if sample.split == split] for split in ("val", "test"))
    train = [
        sample
        for sample, group in zip(samples, groups, strict=True)
        if sample.split == "train" and not sample.near_val and group not in held_out
    ]
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


def content_hash(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: if it is missing, unreadable, or no regular file (a pipe would never end).
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def group_folds(samples: Sequence[Sample], num_folds: int, seed: int) -> list[np.ndarray]:
    """Indices of each fold's held-out samples: works whole, classes and kinds of source spread evenly.

    Greedy: works from the largest to the smallest, each into the fold that misses its kinds most.

    Raises:
        DataError: if there are fewer works than folds.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(work_groups(samples)):
        members[group].append(i)
    if len(members) < num_folds:
        raise DataError(f"{len(members)} works cannot make {num_folds} folds")
    rng = np.random.default_rng(seed)
    order = sorted(members, key=lambda group: (-len(members[group]), rng.random()))
    totals = Counter((sample.label, sample.source) for sample in samples)
    filled = [Counter[tuple[int, str]]() for _ in range(num_folds)]
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for group in order:
        kinds = Counter((samples[i].label, samples[i].source) for i in members[group])

        def fullness(fold: int, kinds: Counter[tuple[int, str]] = kinds) -> float:
            return sum(filled[fold][kind] / totals[kind] for kind in kinds) + 1e-6 * len(folds[fold])

        fold = min(range(num_folds), key=fullness)
        folds[fold] += members[group]
        filled[fold] += kinds
    return [np.array(sorted(fold), dtype=np.int64) for fold in folds]


def sampling_weights(samples: Sequence[Sample], config: SamplingConfig) -> np.ndarray:
    """Probability of drawing each sample, float64 [N]; classes have equal shares."""
    groups = work_groups(samples)
    sizes = Counter(groups)
    weights = np.array([sizes[group] ** -config.work_exponent for group in groups])
    weights *= np.array([1.0 if sample.is_still else config.clip_weight for sample in samples])
    labels = np.array([sample.label for sample in samples])
    for label in np.unique(labels):
        weights[labels == label] /= weights[labels == label].sum()
    shares: np.ndarray = weights / weights.sum()
    return shares
