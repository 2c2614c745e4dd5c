"""Options that say how results are printed, and the progress bar that stays out of their way."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Self

from reelkind.core.files.whole_files import whole_file

from .talk import say

BAR_DELAY_S = 1.0  # shorter work needs no progress bar


def add_shape(parser: argparse.ArgumentParser, *, jsonl: str, csv: str) -> None:
    """Options of commands that print a table unless told otherwise; the texts are those of --help."""
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--jsonl", action="store_true", help=jsonl)
    shape.add_argument("--csv", action="store_true", help=csv)


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Options of commands that show a ``Bar``."""
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")


def add_output(parser: argparse.ArgumentParser) -> None:
    """``--output`` of commands whose results ``results`` takes."""
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write results here, at the end and whole, not to stdout"
    )


@contextmanager
def results(path: Path | None) -> Iterator[None]:
    """Stdout takes file names of any bytes, and if there is a path, what is printed goes there, whole or not at all.

    Raises:
        OSError: if the file cannot be written.
    """
    if path is None:
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield
        return
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", write_through=True)
        try:
            with redirect_stdout(text):
                yield
        finally:
            text.detach()  # it would close the file


def say_nothing_named() -> int:
    """Say that the list on standard input was empty; the exit status of a command that has nothing to do."""
    say("no paths on standard input")
    return 0


class Bar:
    """A progress bar on stderr, only on a terminal and only when the work takes longer than a second.

    Args:
        shown: whether it is wanted.
        options: what tqdm is told of it.
    """

    def __init__(self, *, shown: bool, **options: Any) -> None:
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(delay=BAR_DELAY_S, leave=False, file=sys.stderr, dynamic_ncols=True, **options)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar away while lines are printed: both may share the terminal."""
        if self._bar is None:
            yield
            return
        with self._bar.external_write_mode(file=sys.stdout):
            yield

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
