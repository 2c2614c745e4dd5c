"""Manifests without splits to splits by work: what has one keeps it, what is new fills up the shares."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reelkind.core.errors import DataError, LeakError
from reelkind.core.taxonomy.classes import CLASSES

from .exclusions import PAIRS, read_exclusions
from .grouping import work_groups
from .sample import Sample
from .samples import REQUIRED_COLUMNS, SPLITS, samples_of
from .tables import Table, read_table, write_table

Stratum = tuple[str, ...]
"""() for everything, (class,) or (class, subcategory)."""


@dataclass(frozen=True)
class Shares:
    """How much of the data each split gets, as shares that sum to 1; test may have none."""

    train: float
    val: float
    test: float

    @classmethod
    def parse(cls, text: str) -> Shares:
        """Per cents, e.g. ``"70/20/10"``.

        Raises:
            ValueError: if they are not three, do not sum to 100, or leave training or validation nothing.
        """
        parts = [float(part) for part in text.split("/")]
        if len(parts) != len(SPLITS) or abs(sum(parts) - 100) > 0.01:
            raise ValueError(f"{text!r} must be three per cents that sum to 100, for {', '.join(SPLITS)}")
        if not (parts[0] > 0 and parts[1] > 0 and parts[2] >= 0):
            raise ValueError(f"{text!r} leaves training or validation nothing")
        return cls(*(part / 100 for part in parts))

    def of(self, split: str) -> float:
        """Share of a split."""
        share: float = getattr(self, split)
        return share


@dataclass(frozen=True)
class Member:
    """A row that has a split or is to get one.

    Attributes:
        sample: what it is; its own ``split`` says "train" for none and is not looked at.
        split: one of ``SPLITS``, or "".
        counts: whether readers will see it; what is excluded follows its work without being counted.
    """

    sample: Sample
    split: str
    counts: bool = True

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """Whose shares it counts in: everything, its class, its subcategory."""
        class_name = CLASSES[self.sample.label]
        return (), (class_name,), (class_name, self.sample.subcategory.lower())


def split_manifests(manifests: Sequence[Path], shares: Shares, seed: int, *, write: bool = True) -> list[Member]:
    """Give every row without a split one, over all manifests together.

    Rows of one work, of works whose names contain one another, and of works that ``exclusions.csv`` joins as near
    duplicates get the same split. Rows marked ``near_val`` stay as they are: training leaves them out anyway.

    Args:
        manifests: files; each keeps its other columns and the order of its rows.
        shares: what to approach.
        seed: decides between equals.
        write: False only looks.

    Returns:
        Every row with its split, in the order of the manifests.

    Raises:
        DataError: if a manifest or its exclusions are malformed, or there are no rows.
        LeakError: if a work already has several splits.
    """
    tables, members, links = [], [], []
    for manifest in manifests:
        table = read_table(manifest, REQUIRED_COLUMNS)
        exclusions = read_exclusions(manifest.parent)
        excluded = {row.path for row in exclusions if row.exclude}
        links += [(row.path, row.other) for row in exclusions if row.reason in PAIRS and not row.exclude]
        for sample, row in zip(samples_of(table), table.rows, strict=True):
            members.append(Member(sample, row.get("split", "").strip().lower(), sample.path not in excluded))
        tables.append(table)
    if not members:
        raise DataError(f"nothing to split: {', '.join(map(str, manifests))} list no files")
    chosen = assign(members, [(one, other) for one, other in links if isinstance(other, Path)], shares, seed)
    if write:
        splits = iter(chosen)
        for table in tables:
            _fill_in(table, [next(splits) for _ in table.rows])
    return [replace(member, split=split) for member, split in zip(members, chosen, strict=True)]


def _fill_in(table: Table, splits: Sequence[str]) -> None:
    if "split" not in table.columns:
        table.columns.append("split")
    changed = False
    for row, split in zip(table.rows, splits, strict=True):
        if split and not row.get("split", "").strip():
            row["split"] = split
            changed = True
    if changed:
        write_table(table.path, table.columns, table.rows)


def assign(members: Sequence[Member], links: Iterable[tuple[Path, Path]], shares: Shares, seed: int) -> list[str]:
    """A split for every member; those that have one keep it.

    Greedy: works from the largest to the smallest, each into the split that brings the shares of all it contains
    (everything, class, subcategory) nearest to what is wanted. Stratified k-fold splitters would start from nothing
    each time and know only equal shares.

    Args:
        members: rows.
        links: files that must not part; where two works already have different splits, a link is passed over, since
            a person has decided.
        shares: what to approach.
        seed: decides between equals.

    Raises:
        LeakError: if a work already has several splits.
    """
    groups = _joined_groups(members, links)
    frozen = {group: member.split for member, group in zip(members, groups, strict=True) if _is_frozen(member)}
    contents: dict[str, Counter[Stratum]] = defaultdict(Counter)
    for member, group in zip(members, groups, strict=True):
        contents[group].update(member.strata if member.counts and not member.sample.near_val else ())
    totals: Counter[Stratum] = sum(contents.values(), Counter())
    filled: dict[str, Counter[Stratum]] = {split: Counter() for split in SPLITS if shares.of(split)}
    for group, split in frozen.items():
        filled.setdefault(split, Counter()).update(contents[group])
    rng = np.random.default_rng(seed)
    waiting = [group for group in contents if group not in frozen]
    for group in sorted(waiting, key=lambda group: (-contents[group].total(), rng.random())):
        split = min(filled, key=lambda split: _cost(split, contents[group], filled[split], totals, shares))
        frozen[group] = split
        filled[split].update(contents[group])
    return [
        member.split or ("" if member.sample.near_val else frozen[group])
        for member, group in zip(members, groups, strict=True)
    ]


def _cost(
    split: str, added: Counter[Stratum], filled: Counter[Stratum], totals: Counter[Stratum], shares: Shares
) -> float:
    """How much farther from its shares a split gets: change of the squared deviations, in units of the share."""
    wanted = shares.of(split)
    if not wanted:
        return float("inf")  # a split that rows brought along, and nothing is added to
    change = 0.0
    for stratum, count in added.items():
        before = filled[stratum] / totals[stratum] - wanted
        change += ((before + count / totals[stratum]) ** 2 - before**2) / wanted
    return change


def _is_frozen(member: Member) -> bool:
    return bool(member.split) and not member.sample.near_val


def _joined_groups(members: Sequence[Member], links: Iterable[tuple[Path, Path]]) -> list[str]:
    groups = work_groups([member.sample for member in members])
    splits: dict[str, set[str]] = defaultdict(set)
    works: dict[str, set[str]] = defaultdict(set)
    for member, group in zip(members, groups, strict=True):
        if _is_frozen(member):
            splits[group].add(member.split)
            works[group].add(f"{member.sample.work!r} in {member.split}")
    torn = [", ".join(sorted(works[group])) for group in splits if len(splits[group]) > 1]
    if torn:
        raise LeakError(
            f"works with several splits: {'; '.join(torn[:5])}{' …' if len(torn) > 5 else ''}; "
            "give each one split in the manifest, or empty its cells to have it assigned anew"
        )
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    group_of = {_absolute(member.sample.path): group for member, group in zip(members, groups, strict=True)}
    for one, other in links:
        if _absolute(one) in group_of and _absolute(other) in group_of:
            first, second = root(group_of[_absolute(one)]), root(group_of[_absolute(other)])
            if len(splits[first] | splits[second]) <= 1:
                splits[first] |= splits[second]
                parent[second] = first
    return [root(group) for group in groups]


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (names ".." are to go, links are to stay)
