"""A table beside the answers of a plain client, and beside another table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelkind.bulk import parts, rows
from reelkind.client import Failure, Prediction

TOLERANCE = 1e-4  # of a probability: batches of other sizes add up in another order

Answers = Mapping[str, Prediction | Failure]
"""Path -> what the client said."""

Files = Mapping[str, Path]
"""URI of a job -> the file that is there."""


def compare(out: Path, files: Files, right: Answers) -> dict[str, int]:
    """Rows of a table beside what the plain loop said."""
    found = parts.read(out, ["uri", "sha256", "label", "scores", "error"]).to_pylist()
    by_uri = {row["uri"]: row for row in found}
    return {
        "rows": len(found),
        "errors": sum(row["error"] is not None for row in found),
        "duplicates": len(found) - len(by_uri),
        "lost": len(files.keys() - by_uri.keys()),
        "wrong": sum(uri not in files or not _agrees(row, files[uri], right) for uri, row in by_uri.items()),
    }


def differing(one: tuple[Path, Files], other: tuple[Path, Files]) -> int:
    """Files whose rows two tables do not share, timings and URIs left out, probabilities by ``TOLERANCE``."""
    names = [name for name in rows.schema().names if not name.endswith("_ms")]
    first, second = (
        {files[row.pop("uri")]: row for row in parts.read(out, names).to_pylist()} for out, files in (one, other)
    )
    return len(first.keys() ^ second.keys()) + sum(
        not _same(row, second[file]) for file, row in first.items() if file in second
    )


def _agrees(row: Mapping[str, Any], file: Path, right: Answers) -> bool:
    answer = right[str(file)]
    if row["sha256"] != hashlib.sha256(file.read_bytes()).hexdigest():
        return False
    if isinstance(answer, Failure):
        return row["label"] is None and row["error"] is not None
    return row["label"] == answer.label and _near(row["scores"], answer.scores)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    exact = {"sha256", "label", "subcategory", "error_class", "error", "weights", "warnings"}
    return _near(one["scores"], other["scores"]) and all(one[name] == other[name] for name in exact)


def _near(one: Mapping[str, float] | None, other: Mapping[str, float] | None) -> bool:
    """Whether both are missing, or each class is as likely in the one as in the other."""
    if one is None or other is None:
        return one is other
    return all(abs(one[name] - other[name]) <= TOLERANCE for name in other)
