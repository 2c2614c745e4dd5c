"""Manifests to samples, and samples to splits that never divide a work."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.core.taxonomy import CLASSES

from .config import SamplingConfig
from .errors import DataError, LeakError

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
        split: ``"train"`` or ``"val"``.
        near_val: its show, game or repository also feeds the validation split.
    """

    path: Path
    label: int
    work: str
    source: str
    split: str = "train"
    near_val: bool = False

    @property
    def is_still(self) -> bool:
        """Whether it is a picture, not a video."""
        return self.path.suffix.lower() in PICTURE_SUFFIXES


def read_samples(root: Path, sources: Sequence[str], optional: bool = False) -> list[Sample]:
    """Every row of ``root/<source>/manifest.csv``; columns path, class and work, optionally split and near_val.

    Raises:
        DataError: if a manifest is missing (unless ``optional``), lacks a column, or names an unknown class.
    """
    samples = []
    for source in sources:
        manifest = root / source / "manifest.csv"
        if not manifest.is_file():
            if optional:
                continue
            raise DataError(f"no {manifest}: --data must be the folder that holds {', '.join(sources)}")
        with manifest.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                samples.append(_sample(row, manifest))
    if not samples:
        raise DataError(f"no samples in {root}")
    return samples


def _sample(row: dict[str, str], manifest: Path) -> Sample:
    try:
        path, class_name, work = row["path"], row["class"], row["work"]
    except KeyError as error:
        raise DataError(f"{manifest} lacks the column {error}") from None
    if class_name not in CLASSES:
        raise DataError(f"{manifest}: {path} has class {class_name!r} (known: {', '.join(CLASSES)})")
    return Sample(
        path=manifest.parent / path,
        label=CLASSES.index(class_name),
        work=work,
        source=manifest.parent.name,
        split=row.get("split") or "train",
        near_val=row.get("near_val") == "yes",
    )


def work_groups(samples: Sequence[Sample]) -> list[str]:
    """A group for every sample; works whose names contain one another ("simpsons", "The Simpsons") share one."""
    keys = sorted({_work_key(sample.work) for sample in samples})
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    for inner in keys:
        for outer in keys:
            same_start = len(inner) >= MIN_KEY_LENGTH and outer.startswith(inner)
            if inner != outer and (same_start or (len(inner) >= MIN_INNER_KEY_LENGTH and inner in outer)):
                parent[root(outer)] = root(inner)
    return [root(_work_key(sample.work)) for sample in samples]


def _work_key(work: str) -> str:
    return re.sub(r"[^a-z0-9]", "", work.lower().removeprefix("the "))


def split_samples(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples; training loses whatever is near validation.

    Raises:
        DataError: if a side is empty.
        LeakError: if a work or a file is on both sides after all.
    """
    groups = work_groups(samples)
    held_out = {group for sample, group in zip(samples, groups, strict=True) if sample.split == "val"}
    val = [sample for sample in samples if sample.split == "val"]
    train = [
        sample
        for sample, group in zip(samples, groups, strict=True)
        if sample.split == "train" and not sample.near_val and group not in held_out
    ]
    if not train or not val:
        raise DataError(f"{len(train)} training and {len(val)} validation samples: both splits are needed")
    refuse_leaks(train, val)
    return train, val


def refuse_leaks(train: Iterable[Sample], val: Iterable[Sample]) -> None:
    """Compare names of works and contents of files.

    Raises:
        LeakError: if any is on both sides.
    """
    train, val = list(train), list(val)
    works = {_work_key(sample.work) for sample in train} & {_work_key(sample.work) for sample in val}
    if works:
        raise LeakError(f"works on both sides of the split: {', '.join(sorted(works)[:5])}")
    hashes = {content_hash(sample.path): sample.path for sample in val if sample.path.is_file()}
    for sample in train:
        if sample.path.is_file() and (twin := hashes.get(content_hash(sample.path))):
            raise LeakError(f"{sample.path} and {twin} are the same file on both sides of the split")


def content_hash(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
