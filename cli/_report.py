"""Predictions to lines on stdout: a table for people, JSON lines and CSV for programs; and the progress bar."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

from reelkind.client import Failure, Prediction, ServerInfo

from ._inputs import Input

Answer = Prediction | Failure

BAR_CELLS = 10
BAR_DELAY_S = 1.0  # shorter work needs no progress bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
UNTRAINED = " (untrained)"
_MAX_PATH_SHARE = 0.5  # of the terminal's width


class Report(Protocol):
    """Prints answers as they come."""

    def add(self, answer: Answer) -> None:
        """Print one answer, at once."""
        ...


def make(args: argparse.Namespace, inputs: Any, info: ServerInfo) -> Report:
    """The report asked for; says on stderr if the model is untrained."""
    if not info.model.trained:
        print(
            f"reelkind: the model {', '.join(info.model.members)} is UNTRAINED: its labels mean nothing",
            file=sys.stderr,
        )
    if args.jsonl:
        return JsonLines(args.attention)
    if args.csv:
        return Csv(info)
    return Table(inputs if isinstance(inputs, list) else None, args.top_k, info)


class JsonLines:
    """One object a video; ``label`` is null and ``error`` a sentence where there is no answer."""

    def __init__(self, attention: bool) -> None:
        self._attention = attention

    def add(self, answer: Answer) -> None:
        if isinstance(answer, Failure):
            raw = dict.fromkeys(("path", "label", "confidence", "scores", "error", "timings_ms", "model"))
            raw.update(path=answer.path, error=reason(answer))
        else:
            raw = {**answer.to_dict(attention=self._attention), "error": None}
        print(json.dumps(raw), flush=True)  # ASCII, so that any file name survives


class Csv:
    """A header, then one row a video."""

    def __init__(self, info: ServerInfo) -> None:
        self._classes = info.classes
        self._writer = csv.writer(sys.stdout, lineterminator="\n")
        timings = ("decode_ms", "infer_ms", "total_ms")
        self._writer.writerow(
            ["path", "label", "confidence", *self._classes, "error", *timings, "ensemble", "members", "trained"]
        )

    def add(self, answer: Answer) -> None:
        if isinstance(answer, Failure):
            empty = [""] * len(self._classes)
            row = [answer.path, "", "", *empty, reason(answer), "", "", "", "", "", ""]
        else:
            scores = [f"{answer.scores[name]:.6f}" for name in self._classes]
            timings = [f"{answer.timings_ms[name]:.1f}" for name in ("decode", "infer", "total")]
            model = [answer.model.ensemble, "+".join(answer.model.members), str(answer.model.trained).lower()]
            row = [answer.path or "", answer.label, f"{answer.confidence:.6f}", *scores, "", *timings, *model]
        self._writer.writerow(row)
        sys.stdout.flush()


class Table:
    """Aligned columns: path, label, confidence as number and bar, times; with top-k the next classes after them."""

    def __init__(self, inputs: list[Input] | None, top_k: int, info: ServerInfo) -> None:
        widest = int(shutil.get_terminal_size((100, 24)).columns * _MAX_PATH_SHARE)
        longest = widest if inputs is None else max((len(printable(item.path)) for item in inputs), default=0)
        self._width = min(widest, longest)
        self._label_width = max(map(len, info.classes)) + (0 if info.model.trained else len(UNTRAINED))
        self._top_k = top_k
        self._begun = False

    def add(self, answer: Answer) -> None:
        if not self._begun:
            self._begun = True
            self._line("VIDEO", "LABEL", f"{'CONFIDENCE':18}    DECODE     INFER")
        if isinstance(answer, Failure):
            self._line(answer.path, "-", printable(reason(answer)))
            return
        label = answer.label + ("" if answer.model.trained else UNTRAINED)
        times = f"{answer.timings_ms['decode']:6.0f} ms  {answer.timings_ms['infer']:5.0f} ms"
        others = "".join(f"  {name} {score:.1%}" for name, score in answer.top(self._top_k)[1:])
        self._line(answer.path or "", label, f"{answer.confidence:6.1%} {bar(answer.confidence)}  {times}{others}")

    def _line(self, path: str, label: str, rest: str) -> None:
        path = printable(path)
        if len(path) > self._width:
            path = "…" + path[len(path) - self._width + 1 :]  # the end says more than the beginning
        print(f"{path:{self._width}}  {label:{self._label_width}}  {rest}", flush=True)


def reason(failure: Failure) -> str:
    """Why, without the path, which has a column of its own."""
    return str(getattr(failure.error, "reason", failure.error))


def printable(text: str) -> str:
    """Newlines, control characters and undecodable bytes of file names as escapes: one video stays one line."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def bar(share: float) -> str:
    """0 .. 1 as a bar of ``BAR_CELLS`` characters, in eighths of a cell.

    >>> bar(0.5)
    '█████     '
    """
    full, eighths = divmod(round(share * BAR_CELLS * 8), 8)
    return ("█" * full + (_EIGHTHS[eighths] if full < BAR_CELLS else "")).ljust(BAR_CELLS)


class Progress:
    """A bar on stderr, only on a terminal and only when the work takes longer than a second."""

    def __init__(self, total: int | None, *, shown: bool) -> None:
        self._bar: Any = None
        if shown and sys.stderr.isatty() and total != 1:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, unit="video", delay=BAR_DELAY_S, leave=False, file=sys.stderr, dynamic_ncols=True
            )

    def advance(self) -> None:
        """One video more is done."""
        if self._bar is not None:
            self._bar.update()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar away while a line is printed: both may share the terminal."""
        if self._bar is None:
            yield
            return
        with self._bar.external_write_mode(file=sys.stdout):
            yield

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
