"""Rows of a measurement to files: JSON, CSV beside it, and a Markdown page with plots."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
Draw = Callable[["Axes", Sequence[Row]], None]


def write(path: Path, report: Mapping[str, Any], page: str, plots: Mapping[str, Draw]) -> list[Path]:
    """A report and what is beside it; all share the stem of ``path``.

    Args:
        path: of the JSON file; folders are made.
        report: with ``"rows"``.
        page: Markdown; a plot named ``x`` is included where it says ``![x]``, with ``(file)`` added here.
        plots: name -> what draws the rows.

    Returns:
        The files written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [path, path.with_suffix(".csv"), path.with_suffix(".md")]
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    files[1].write_text(as_csv(report["rows"]), encoding="utf-8")
    for name, draw in plots.items():
        picture = path.with_name(f"{path.stem}_{name}.png")
        _draw(picture, draw, report["rows"])
        page = page.replace(f"![{name}]", f"![{name}]({picture.name})")
        files.append(picture)
    files[2].write_text(page, encoding="utf-8")
    return files


def as_csv(rows: Sequence[Row]) -> str:
    """Rows under the union of their keys; what is no number or text is left to the JSON file."""
    flat = [{key: value for key, value in row.items() if not isinstance(value, (dict, list))} for row in rows]
    names = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """With some significant digits; a dash for what was not measured."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most of some repeats."""
    return {
        "median": round(statistics.median(values), 4),
        "low": round(min(values), 4),
        "high": round(max(values), 4),
    }


def conditions(environment: Mapping[str, Any]) -> str:
    """The environment as a list, Markdown."""
    lines = []
    for key, value in environment.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {each}" for name, each in value.items())
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value)) or "none"
        lines.append(f"- {key.replace('_', ' ')}: {value}")
    return "\n".join(lines)


def _draw(path: Path, draw: Draw, rows: Sequence[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    draw(figure.subplots(), rows)
    figure.savefig(path, dpi=110)
