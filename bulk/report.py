"""A table to what one wants to know of it: for a terminal, and as a page that needs no other file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from reelkind.core.taxonomy.classes import CLASSES

from . import parts
from .contact_sheet import Strip

REPORT_NAME = "report.html"
NUM_BINS = 10  # of confidence, from 0 to 1
NUM_DOUBTFUL = 20
NUM_ERRORS = 20
NO_LABEL = "(no label)"
_BAR_CHARS = 40

_STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1917}
table{border-collapse:collapse;width:100%;margin:.5rem 0 2rem}
td,th{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #d6d3d1;overflow-wrap:anywhere}
img{display:block}td.n{text-align:right;white-space:nowrap}
td.bar{width:50%}td.bar div{background:#1d4ed8;height:1rem}"""


@dataclass(frozen=True)
class Summary:
    """What a table holds.

    Attributes:
        num_rows: inputs with a row.
        num_failed: those of them with an error.
        labels: label -> rows, in the order of the classes; ``NO_LABEL`` of those that are answered without one.
        histogram: answered rows by confidence, ``NUM_BINS`` bins of equal width.
        doubtful: (uri, label, confidence), least confident first.
        errors: (error class, sentence, rows, one uri), most frequent first.
    """

    num_rows: int
    num_failed: int
    labels: dict[str, int]
    histogram: tuple[int, ...]
    doubtful: tuple[tuple[str, str, float], ...]
    errors: tuple[tuple[str, str, int, str], ...]


def summarise(folder: Path) -> Summary:
    """Read all parts of a table.

    Raises:
        BulkError: if there is no such table.
    """
    table = parts.read(folder, ["uri", "label", "confidence", "error_class", "error"])
    labels: Counter[str] = Counter()
    errors: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    histogram = [0] * NUM_BINS
    answers: list[tuple[float, str, str]] = []
    for batch in table.to_batches():
        for uri, label, confidence, kind, sentence in zip(*(column.to_pylist() for column in batch), strict=True):
            if kind is not None:
                errors[kind, sentence] += 1
                examples.setdefault((kind, sentence), uri)
            if confidence is None:
                continue
            labels[label or NO_LABEL] += 1
            histogram[min(int(confidence * NUM_BINS), NUM_BINS - 1)] += 1
            answers.append((confidence, uri, label or NO_LABEL))
        answers = sorted(answers)[:NUM_DOUBTFUL]  # memory does not grow with the table
    return Summary(
        table.num_rows,
        errors.total(),
        {name: labels[name] for name in (*CLASSES, NO_LABEL) if name in CLASSES or labels[name]},
        tuple(histogram),
        tuple((uri, label, confidence) for confidence, uri, label in answers),
        tuple((*key, count, examples[key]) for key, count in errors.most_common(NUM_ERRORS)),
    )


def text(summary: Summary) -> str:
    """For a terminal."""
    lines = [f"{summary.num_rows} rows, {summary.num_failed} of them with an error", ""]
    lines += _bars(summary.labels)
    lines += ["", "confidence", *_bars(dict(zip(_bin_names(), summary.histogram, strict=True)))]
    if summary.doubtful:
        lines += [
            "",
            "least confident",
            *(f"  {sure:6.1%}  {label:<10} {uri}" for uri, label, sure in summary.doubtful),
        ]
    if summary.errors:
        lines += ["", "errors", *(f"  {count:>9}  {kind}: {why} ({uri})" for kind, why, count, uri in summary.errors)]
    return "\n".join(lines)


def html(summary: Summary, strips: Mapping[str, Strip]) -> str:
    """A whole page; everything that came from files is escaped.

    Args:
        summary: of the table.
        strips: pictures of the doubtful, by URI.
    """
    doubtful = (
        (_picture(strips[uri]), *map(escape, (uri, label, f"{sure:.1%}"))) for uri, label, sure in summary.doubtful
    )
    errors = (tuple(map(escape, (kind, why, str(count), uri))) for kind, why, count, uri in summary.errors)
    body = [
        f"<h1>{summary.num_rows} videos, {summary.num_failed} with an error</h1>",
        "<h2>Classes</h2>",
        _bar_table(summary.labels),
        "<h2>Confidence</h2>",
        _bar_table(dict(zip(_bin_names(), summary.histogram, strict=True))),
        "<h2>Least confident</h2>",
        _table(("pictures", "video", "label", "confidence"), [*doubtful]),
        "<h2>Errors</h2>",
        _table(("class", "error", "videos", "for example"), [*errors]),
    ]
    head = f'<meta charset="utf-8"><title>reelkind bulk report</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _bin_names() -> list[str]:
    return [f"{at / NUM_BINS:.1f} to {(at + 1) / NUM_BINS:.1f}" for at in range(NUM_BINS)]


def _bars(counts: dict[str, int]) -> list[str]:
    most = max(1, *counts.values())
    return [
        f"  {name:<12} {count:>9}  {'█' * round(_BAR_CHARS * count / most)}".rstrip() for name, count in counts.items()
    ]


def _bar_table(counts: dict[str, int]) -> str:
    most = max(1, *counts.values())
    rows = (
        f'<tr><td>{escape(name)}<td class="n">{count}'
        f'<td class="bar"><div style="width:{100 * count / most:.1f}%"></div>'
        for name, count in counts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _picture(strip: Strip) -> str:
    return f'<img alt="" src="{strip.jpeg_uri}">' if strip.jpeg_uri else escape(strip.problem or "")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Of cells that are HTML."""
    if not rows:
        return "<p>None.</p>"
    titles = "".join(f"<th>{title}" for title in head)
    cells = ("<tr>" + "".join(f"<td>{cell}" for cell in row) for row in rows)
    return f"<table><tr>{titles}{''.join(cells)}</table>"
