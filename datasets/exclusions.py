"""Findings of a check to ``exclusions.csv``, which readers of the data honour and people may edit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from reelkind.core.errors import DataError

from .tables import read_table, write_table

EXCLUSIONS_NAME = "exclusions.csv"
COLUMNS = ("path", "reason", "detail", "other", "exclude")


class Reason(StrEnum):
    """Why a file was found."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    HASH_MISMATCH = "hash_mismatch"
    TOO_SHORT = "too_short"
    DUPLICATE = "duplicate"
    LEAK = "leak"
    NEAR_DUPLICATE = "near_duplicate"
    MISLABELLED = "mislabelled"


LOOK_AT_IT = frozenset({Reason.NEAR_DUPLICATE, Reason.MISLABELLED})
"""Reasons for which a person decides; files found for any other are excluded until a person says otherwise."""
PAIRS = frozenset({Reason.DUPLICATE, Reason.LEAK, Reason.NEAR_DUPLICATE})
"""Reasons for which ``other`` is a file."""


@dataclass(frozen=True)
class Finding:
    """Something about one file.

    Attributes:
        path: the file.
        reason: what it is.
        detail: a sentence.
        other: the file it is compared with, for a mislabelled one the class it looks like; "" if there is none.
    """

    path: Path
    reason: Reason
    detail: str
    other: str | Path = ""


@dataclass(frozen=True)
class Verdict:
    """What became of a finding.

    Attributes:
        finding: the finding.
        exclude: whether readers leave the file out for it.
        is_new: whether it was found for the first time.
    """

    finding: Finding
    exclude: bool
    is_new: bool


@dataclass(frozen=True)
class Exclusion:
    """A row of ``exclusions.csv``.

    Attributes:
        path: the file.
        reason: a ``Reason`` or a person's own word.
        other: see ``Finding``; a file if ``reason`` is one of ``PAIRS``.
        exclude: whether readers leave the file out.
    """

    path: Path
    reason: str
    other: str | Path
    exclude: bool


def read_exclusions(folder: Path) -> list[Exclusion]:
    """Rows of ``folder/exclusions.csv``; none if there is no such file.

    Raises:
        DataError: if it is malformed; the message names the line.
    """
    path = folder / EXCLUSIONS_NAME
    if not path.exists():
        return []
    table = read_table(path, ("path", "exclude"))
    found = []
    for i, row in enumerate(table.rows):
        if row["exclude"].strip().lower() not in ("yes", "no", ""):
            raise DataError(f"{table.where(i)}: exclude is {row['exclude']!r}: write yes, no or nothing")
        reason, other = row.get("reason", ""), row.get("other", "")
        twin = folder / other if other and reason in PAIRS else other
        found.append(Exclusion(folder / row["path"], reason, twin, _is_yes(row)))
    return found


def write_exclusions(folder: Path, findings: Iterable[Finding], manifest_folder: Path) -> list[Verdict]:
    """Write ``folder/exclusions.csv``, keeping what people wrote into the one that is there.

    A finding made before keeps its ``exclude`` and any further columns. A row whose finding is gone goes too,
    unless a person changed its ``exclude`` or gave a reason of their own.

    Args:
        folder: where to; created.
        findings: in the order of the rows.
        manifest_folder: paths are written relative to it.

    Returns:
        A verdict a finding, in their order.

    Raises:
        DataError: if the file that is there is malformed.
    """
    path = folder / EXCLUSIONS_NAME
    columns: Sequence[str] = COLUMNS
    before: dict[tuple[str, ...], dict[str, str]] = {}
    if path.exists():
        read_exclusions(folder)
        table = read_table(path, ("path", "exclude"))
        columns = [*table.columns, *(name for name in COLUMNS if name not in table.columns)]
        before = {_key(row): row for row in table.rows}
    rows, verdicts = [], []
    for finding in findings:
        row = _as_row(finding, manifest_folder)
        known = before.pop(_key(row), None)
        rows.append(row if known is None else {**known, **row, "exclude": known["exclude"]})
        verdicts.append(Verdict(finding, _is_yes(rows[-1]), known is None))
    rows += [row for row in before.values() if _is_by_hand(row)]
    if rows or path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_table(path, columns, rows)
    return verdicts


def _as_row(finding: Finding, folder: Path) -> dict[str, str]:
    other = finding.other if isinstance(finding.other, str) else relative(finding.other, folder)
    exclude = "no" if finding.reason in LOOK_AT_IT else "yes"
    cells = (relative(finding.path, folder), finding.reason.value, finding.detail, other, exclude)
    return dict(zip(COLUMNS, cells, strict=True))


def relative(path: Path, folder: Path) -> str:
    """A path as manifests write it: from their own folder, with slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _key(row: dict[str, str]) -> tuple[str, ...]:
    reason = row.get("reason", "")
    return (row["path"], reason, row.get("other", "") if reason in PAIRS else "")


def _is_yes(row: dict[str, str]) -> bool:
    return row["exclude"].strip().lower() == "yes"


def _is_by_hand(row: dict[str, str]) -> bool:
    reason = row.get("reason", "")
    return reason not in set(Reason) or _is_yes(row) == (reason in LOOK_AT_IT)
