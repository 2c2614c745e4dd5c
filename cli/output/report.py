"""Predictions to lines on stdout: a table for people, JSON lines and CSV for programs; and the progress bar."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import unicodedata
from collections import Counter
from typing import Any, Protocol

from reelkind.client import Failure, Prediction, Segment, ServerInfo
from reelkind.core.taxonomy.classes import CLASSES

from ..options.inputs import Input
from .printing import Bar
from .talk import say

Answer = Prediction | Failure

BAR_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉"
UNTRAINED = " (untrained)"
_PATH, _FINER = "VIDEO", "SUBCATEGORY"
UNSURE = "?"  # in the place of a label
_KEYS: tuple[str, ...] = (
    *("path", "label", "confidence", "reason", "scores", "subcategory", "subcategory_confidence", "subcategories"),
    *("error", "timings_ms", "model", "from_cache", "warnings"),
)
_TIMINGS = ("decode_ms", "infer_ms", "total_ms")
_MAX_PATH_SHARE = 0.5  # of the terminal's width


class Report(Protocol):
    """Prints answers as they come."""

    def add(self, answer: Answer) -> None:
        """Print one answer, at once."""
        ...


def make(args: argparse.Namespace, inputs: Any, info: ServerInfo | None) -> Report:
    """The report asked for; without a server there are failures only."""
    if args.jsonl:
        return JsonLines(attention=args.attention, embedding=args.embedding, all_subcategories=args.subcategories)
    if args.csv:
        return Csv()
    return Table(inputs if isinstance(inputs, list) else None, args.top_k, info)


class JsonLines:
    """One object a video; ``label`` is null where there is no answer (``error``) or no certain one (``reason``)."""

    def __init__(self, **long: bool) -> None:
        self._long = long  # as ``Prediction.to_dict`` takes them

    def add(self, answer: Answer) -> None:
        if isinstance(answer, Failure):
            raw = dict.fromkeys(_KEYS)
            raw.update(path=answer.path, error=why_none(answer))
        else:
            raw = {**answer.to_dict(**self._long), "error": None}
        print(json.dumps(raw), flush=True)  # ASCII, so that any file name survives


class Csv:
    """A header, then one row a video."""

    def __init__(self) -> None:
        columns = ["path", "label", "confidence", *CLASSES, "subcategory", "subcategory_confidence", "reason"]
        columns += ["warnings", "error", *_TIMINGS]
        columns += ["ensemble", "members", "untrained"]
        self._writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        self._writer.writeheader()

    def add(self, answer: Answer) -> None:
        if isinstance(answer, Failure):
            row = {"path": answer.path, "error": why_none(answer)}
        else:
            row = {
                "path": answer.path or "",
                "label": answer.label or "",
                "confidence": f"{answer.confidence:.6f}",
                **{name: f"{score:.6f}" for name, score in answer.scores.items()},
                **subcategory_columns(answer),
                "reason": answer.reason or "",
                "warnings": "; ".join(answer.warnings),
                **{f"{name}_ms": f"{duration:.1f}" for name, duration in answer.timings_ms.items()},
                "ensemble": answer.model.ensemble,
                "members": "+".join(answer.model.members),
                "untrained": "+".join(answer.model.untrained),
            }
        self._writer.writerow(row)
        sys.stdout.flush()


class Table:
    """Aligned columns: path, label, confidence as number and bar, times; with top-k the next classes after them.

    Warnings stand in a line of their own below the video's.

    A server that may name subcategories has a column for them behind the label.
    """

    def __init__(self, inputs: list[Input] | None, top_k: int, info: ServerInfo | None) -> None:
        widest = int(shutil.get_terminal_size((100, 24)).columns * _MAX_PATH_SHARE)
        longest = widest if inputs is None else max((num_columns(printable(item.path)) for item in inputs), default=0)
        self._width = max(min(widest, longest), len(_PATH))
        self._label_width = max(map(len, CLASSES)) + (0 if info is None or info.model.trained else len(UNTRAINED))
        learnt = () if info is None else info.model.subcategories_learnt or ()
        self._finer_width = max(map(len, (*learnt, _FINER))) if learnt else 0
        self._top_k = top_k
        self._begun = False
        self._counts: Counter[str] = Counter()

    def add(self, answer: Answer) -> None:
        if not self._begun:
            self._begun = True
            self._line(_PATH, "LABEL", f"{'CONFIDENCE':18}    DECODE     INFER", _FINER)
        if isinstance(answer, Failure):
            self._counts["without an answer"] += 1
            self._line(answer.path, "-", printable(why_none(answer)))
            return
        self._counts[answer.label or "unsure"] += 1
        label = (answer.label or UNSURE) + ("" if answer.model.trained else UNTRAINED)
        times = f"{answer.timings_ms['decode']:6.0f} ms  {answer.timings_ms['infer']:5.0f} ms"
        likeliest = answer.top(self._top_k)[0 if answer.label is None else 1 :]  # what the label does not say
        others = "".join(f"  {name} {score:.1%}" for name, score in likeliest)
        others += f"  {answer.reason}" if answer.reason else ""
        others += "  from cache" if answer.from_cache else ""
        rest = f"{answer.confidence:6.1%} {bar(answer.confidence)}  {times}{others}"
        self._line(answer.path or "", label, rest, answer.subcategory or "")
        for warning in answer.warnings:
            print(f"{'':{self._width}}  {warning}", flush=True)

    def finish(self) -> None:
        """Say on stderr how many there are of each class, where somebody is looking who has seen several pass."""
        if self._counts.total() > 1 and sys.stdout.isatty():
            say(f"{self._counts.total()} videos: " + ", ".join(f"{n} {name}" for name, n in self._counts.most_common()))

    def _line(self, path: str, label: str, rest: str, subcategory: str = "") -> None:
        path = printable(path)
        if num_columns(path) > self._width:
            while num_columns(path) > self._width - 1:
                path = path[1:]  # the end says more than the beginning
            path = "…" + path
        path += " " * (self._width - num_columns(path))
        finer = f"{subcategory:{self._finer_width}}  " if self._finer_width else ""
        print(f"{path}  {label:{self._label_width}}  {finer}{rest}", flush=True)


def subcategory_columns(answer: Prediction | Segment) -> dict[str, str]:
    """Cells of what is said of subcategories; empty where nothing is."""
    if answer.subcategory is None:
        return {"subcategory": "", "subcategory_confidence": ""}
    return {"subcategory": answer.subcategory, "subcategory_confidence": f"{answer.subcategory_confidence:.6f}"}


def warn_untrained(info: ServerInfo) -> None:
    """Say on stderr, before any result, which members are untrained."""
    if info.model.untrained:
        names = ", ".join(info.model.untrained)
        say(f"of random weights, UNTRAINED: {names}; labels mean nothing")


def why_none(failure: Failure) -> str:
    """Why, without the path, which has a column of its own."""
    return str(getattr(failure.error, "reason", failure.error))


def printable(text: str) -> str:
    """Newlines, control characters and undecodable bytes of file names as escapes: one video stays one line."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def num_columns(text: str) -> int:
    """Columns of a terminal that a text fills: East Asian wide characters take two, combining ones none.

    >>> num_columns("映画.mp4")
    8
    """
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in ("W", "F")) for char in text
    )


def bar(share: float) -> str:
    """0 .. 1 as a bar of ``BAR_CELLS`` characters, in eighths of a cell.

    >>> bar(0.5)
    '█████     '
    """
    full, eighths = divmod(round(share * BAR_CELLS * 8), 8)
    return ("█" * full + (_EIGHTHS[eighths] if full < BAR_CELLS else "")).ljust(BAR_CELLS)


class CountBar(Bar):
    """How many videos are done."""

    def __init__(self, total: int | None, *, shown: bool) -> None:
        super().__init__(shown=shown and total != 1, total=total, unit="video")

    def advance(self) -> None:
        """One video more is done."""
        if self._bar is not None:
            self._bar.update()
