"""What belongs together: works by their names, sources by works and repositories, folds that divide neither."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np

from reelkind.core.errors import DataError

if TYPE_CHECKING:
    from .sample import Sample

MIN_KEY_LENGTH = 6  # shorter names ("cars", "up") are part of too many others to mean the same work
MIN_INNER_KEY_LENGTH = 8  # ... and inside a longer name, only this much is telling


def work_groups(samples: Sequence[Sample]) -> list[str]:
    """A group for every sample; works whose names contain one another ("simpsons", "The Simpsons") share one."""
    keys = {_work_key(sample.work) for sample in samples}
    contained = [(inner, key) for key in keys for inner in _names_inside(key) & keys]
    root_of = _joined(keys, sorted(contained))
    return [root_of[_work_key(sample.work)] for sample in samples]


def origin_groups(samples: Sequence[Sample]) -> list[str]:
    """A group for every sample; what shares a work or a repository shares one, and so on from one to the next.

    Sources share cameras, encoders and taste: a model tested on works whose neighbours it was trained on looks better
    than it is.
    """
    works = [f"work {work}" for work in work_groups(samples)]
    pairs = [
        (work, f"repository {each.repository}") for work, each in zip(works, samples, strict=True) if each.repository
    ]
    root_of = _joined({*works, *(repository for _, repository in pairs)}, pairs)
    return [root_of[work] for work in works]


def related_to(samples: Sequence[Sample], chosen: Collection[int]) -> np.ndarray:
    """Indices, int64, of the chosen samples and of all that share a work or a repository with one of them."""
    works = work_groups(samples)
    near_works = {works[i] for i in chosen}
    near_repositories = {samples[i].repository for i in chosen} - {""}
    related = [i for i, each in enumerate(samples) if works[i] in near_works or each.repository in near_repositories]
    return np.array(related, dtype=np.int64)


def group_folds(samples: Sequence[Sample], num_folds: int, seed: int) -> list[np.ndarray]:
    """Indices of what each fold holds out: its clips to test on, and the stills that are related to them.

    Clips that share a work or a repository stay together; classes and kinds of source are spread evenly. Greedy:
    groups from the largest to the smallest, each into the fold that misses its kinds most. A still is in as many folds
    as hold clips related to it, often in none: one repository of stills may carry hundreds of films.

    Raises:
        DataError: if there are fewer groups of clips than folds.
    """
    clips = [i for i, sample in enumerate(samples) if not sample.is_still]
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in zip(clips, origin_groups([samples[i] for i in clips]), strict=True):
        members[group].append(i)
    if len(members) < num_folds:
        raise DataError(
            f"{len(members)} works cannot make {num_folds} folds (those that share a repository count as one)"
        )
    rng = np.random.default_rng(seed)
    order = sorted(members, key=lambda group: (-len(members[group]), rng.random()))
    totals = Counter((samples[i].label, samples[i].source) for i in clips)
    filled = [Counter[tuple[int, str]]() for _ in range(num_folds)]
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    for group in order:
        kinds = Counter((samples[i].label, samples[i].source) for i in members[group])

        def fullness(fold: int, kinds: Counter[tuple[int, str]] = kinds) -> float:
            return sum(filled[fold][kind] / totals[kind] for kind in kinds) + 1e-6 * len(folds[fold])

        fold = min(range(num_folds), key=fullness)
        folds[fold] += members[group]
        filled[fold] += kinds
    related = [[i for i in related_to(samples, fold) if samples[i].is_still] for fold in folds]
    return [np.array(sorted(pair[0] + pair[1]), dtype=np.int64) for pair in zip(folds, related, strict=True)]


def _joined(names: Set[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For every name one of those that pairs lead to from it."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for inner, outer in pairs:
        parent[root(outer)] = root(inner)
    return {name: root(name) for name in names}


def _names_inside(key: str) -> set[str]:
    """Parts of a key that would mean the same work, if they were keys themselves."""
    starts = {key[:end] for end in range(MIN_KEY_LENGTH, len(key))}
    parts = range(MIN_INNER_KEY_LENGTH, len(key))
    return starts | {key[start : start + size] for size in parts for start in range(len(key) - size + 1)}


def _work_key(work: str) -> str:
    """Letters and digits of any script, without case and accents; names without any are kept as they are."""
    plain = unicodedata.normalize("NFKD", work.lower().removeprefix("the "))
    return "".join(char for char in plain if char.isalnum()) or work
