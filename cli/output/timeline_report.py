"""Timelines to lines on stdout: a table with a strip for people, JSON lines and CSV for programs; the progress bar."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from reelkind.client import Failure, Segment, Timeline, Window
from reelkind.core.taxonomy.classes import CLASSES

from .printing import Bar
from .report import UNSURE, UNTRAINED, bar, printable, subcategory_columns, why_none

Event = Window | Segment | Timeline

GLYPHS = dict(zip(CLASSES, "█▓▒░", strict=True))
ANSI_COLOURS = dict(zip(CLASSES, (35, 31, 32, 34), strict=True))  # magenta, red, green, blue
NO_LABEL = "·"
STRIP_CELLS = 72


class TimelineReport(Protocol):
    """Prints events as they come."""

    def add(self, path: str, event: Event) -> None: ...

    def fail(self, failure: Failure) -> None: ...


def make(args: argparse.Namespace) -> TimelineReport:
    """The report asked for."""
    if args.jsonl:
        return JsonLines(windows=args.windows or args.embeddings, embeddings=args.embeddings)
    return Csv() if args.csv else Table()


class JsonLines:
    """An object an event; ``event`` says which kind: window, segment, timeline or failure."""

    def __init__(self, *, windows: bool, embeddings: bool) -> None:
        self._windows = windows
        self._embeddings = embeddings

    def add(self, path: str, event: Event) -> None:
        if isinstance(event, Window):
            if self._windows:
                self._print("window", path, event.to_dict(embedding=self._embeddings))
        else:
            self._print(type(event).__name__.lower(), path, event.to_dict())

    def fail(self, failure: Failure) -> None:
        self._print("failure", failure.path, {"error": why_none(failure)})

    def _print(self, event: str, path: str, raw: dict[str, Any]) -> None:
        print(json.dumps({"event": event, **raw, "path": path}), flush=True)


class Csv:
    """A header, then a row an event, named as in ``JsonLines``: segments, then their video; or what went wrong.

    The row of a video has its whole time, the label that fills most of it, ``mixed``, and who answered.
    """

    def __init__(self) -> None:
        columns = ["path", "event", "start_ms", "end_ms", "label", "confidence", *CLASSES]
        columns += ["subcategory", "subcategory_confidence", "mixed", "error", "ensemble", "members", "untrained"]
        self._writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        self._writer.writeheader()

    def add(self, path: str, event: Event) -> None:
        if isinstance(event, Segment):
            times = {"start_ms": event.start_ms, "end_ms": event.end_ms}
            self._row(path, "segment", **times, **_judgement(event), **subcategory_columns(event))
        elif isinstance(event, Timeline):
            self._row(
                path,
                "timeline",
                start_ms=0,
                end_ms=event.duration_ms,
                **_judgement(event),
                mixed=str(event.mixed).lower(),
                error="" if event.error is None else event.error.reason,
                ensemble=event.model.ensemble,
                members="+".join(event.model.members),
                untrained="+".join(event.model.untrained),
            )

    def fail(self, failure: Failure) -> None:
        self._row(failure.path, "failure", error=why_none(failure))

    def _row(self, path: str, event: str, **values: Any) -> None:
        self._writer.writerow({"path": path, "event": event, **values})
        sys.stdout.flush()


class Table:
    """For each video its verdict and a strip of its whole length, then one line a segment."""

    def add(self, path: str, event: Event) -> None:
        if isinstance(event, Timeline):
            for line in self._lines(path, event):
                print(line, flush=True)

    def fail(self, failure: Failure) -> None:
        print(f"{printable(failure.path)}  -  {printable(why_none(failure))}", flush=True)

    def _lines(self, path: str, found: Timeline) -> Iterator[str]:
        untrained = "" if found.model.trained else UNTRAINED
        shares = sorted(found.shares.items(), key=lambda item: -item[1])
        parts = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005)
        verdict = f"{found.label or UNSURE}{untrained}" + ("  MIXED" if found.mixed else "")
        yield f"{printable(path)}  {clock(found.duration_ms)}  {verdict}  ({parts or 'no class is likely enough'})"
        width = min(STRIP_CELLS, shutil.get_terminal_size((100, 24)).columns - 2)
        yield "  " + strip(found, width, coloured=_coloured())
        for segment in found.segments:
            label = f"{GLYPHS.get(segment.label or '', NO_LABEL)} {segment.label or UNSURE}"
            times = f"{clock(segment.start_ms)} .. {clock(segment.end_ms)}"
            share = f"{segment.confidence:6.1%} {bar(segment.confidence)}"
            yield f"  {times}  {label:11}  {share}  {segment.subcategory or ''}".rstrip()
        if found.error is not None:
            yield f"  {printable(found.error.reason)}"
        yield ""


def _judgement(event: Segment | Timeline) -> dict[str, str]:
    """Columns of what a stretch of time shows."""
    scores = {name: f"{score:.6f}" for name, score in event.scores.items()}
    return {"label": event.label or "", "confidence": f"{event.confidence:.6f}", **scores}


def strip(timeline: Timeline, width: int, *, coloured: bool) -> str:
    """A timeline as ``width`` characters, each for the segment in the middle of its time."""
    cells = []
    segments = iter(timeline.segments)
    segment = next(segments)
    for i in range(width):
        middle_ms = (2 * i + 1) * timeline.duration_ms / (2 * width)
        while middle_ms >= segment.end_ms:
            following = next(segments, None)
            if following is None:
                break
            segment = following
        cells.append(_cell(segment.label, coloured=coloured))
    return "".join(cells)


def clock(time_ms: int) -> str:
    """Hours, minutes and seconds.

    >>> clock(3_723_400)
    '1:02:03.4'
    """
    tenths = round(time_ms / 100)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{tenths // 10:02}.{tenths % 10}"


def _cell(label: str | None, *, coloured: bool) -> str:
    if label is None:
        return NO_LABEL
    return f"\x1b[{ANSI_COLOURS[label]}m█\x1b[0m" if coloured else GLYPHS[label]


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org


class TimeBar(Bar):
    """How much of a video's time is decoded."""

    def __init__(self, path: str, *, shown: bool) -> None:
        super().__init__(
            shown=shown,
            desc=printable(os.path.basename(path)),  # noqa: PTH119
            total=1,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s [{elapsed}<{remaining}]",
        )

    def at(self, position_ms: int, duration_ms: int) -> None:
        """So much is decoded."""
        if self._bar is not None:
            self._bar.total = max(position_ms, duration_ms) / 1000
            self._bar.update(position_ms / 1000 - self._bar.n)
