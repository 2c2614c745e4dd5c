"""``reelkind dataset manifest``: a tree of class folders to ``manifest.csv``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..output.talk import say

if TYPE_CHECKING:
    from reelkind.datasets.manifest import Update

MAX_LISTED = 20  # lines of a list on stderr; --json has them all


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "manifest",
        help="list a tree of class folders",
        description="Write FOLDER/manifest.csv from FOLDER/<class>/[<subcategory>/][<work>/]file. Rows that are there "
        "keep whatever was written into them; new files are appended; vanished ones are reported.",
    )
    parser.add_argument("folder", type=Path, help="the folder that holds animation/, gaming/, natural/ and flat/")
    parser.add_argument(
        "--work-pattern",
        type=_pattern,
        metavar="REGEX",
        help="searched in the path below class and subcategory; its group is the work "
        "(default: the next folder, else the file's name without counters at its end)",
    )
    parser.add_argument(
        "--subcategories-any",
        action="store_true",
        help="the first folder below a class is a subcategory, also if the taxonomy does not know it",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the manifest; 1 if a file could not be read."""
    from reelkind.datasets.manifest import Layout, list_tree, update_manifest
    from reelkind.datasets.sample import PICTURE_SUFFIXES
    from reelkind.video.names import VIDEO_EXTENSIONS

    from ..output.report import CountBar

    layout = Layout(VIDEO_EXTENSIONS | set(PICTURE_SUFFIXES), args.subcategories_any, args.work_pattern)
    listing = list_tree(args.folder, layout)
    with ExitStack() as stack:
        progress: list[CountBar] = []

        def start(total: int) -> None:
            progress.append(stack.enter_context(CountBar(total, shown=not args.no_progress)))

        update = update_manifest(args.folder, listing, lambda: progress[0].advance(), start=start)
    _say(f"{len(update.skipped)} skipped", [f"{path} {reason}" for path, reason in update.skipped])
    _say(f"{len(update.vanished)} listed but gone; their rows stay", update.vanished)
    print(json.dumps(_as_json(update), indent=2) if args.json else _table(update))
    return 1 if update.num_failed else 0


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None
    if not pattern.groups:
        raise argparse.ArgumentTypeError(f"{text!r} has no group: put (…) around the work")
    return pattern


def _say(title: str, lines: Sequence[str]) -> None:
    from ..output.report import printable

    if not lines:
        return
    say(f"{title}:")
    for line in lines[:MAX_LISTED]:
        print(f"  {printable(line)}", file=sys.stderr)
    if len(lines) > MAX_LISTED:
        print(f"  … and {len(lines) - MAX_LISTED} more (--json lists all)", file=sys.stderr)


def _as_json(update: Update) -> dict[str, object]:
    return {
        "manifest": str(update.table.path),
        "rows": len(update.table.rows),
        "new": update.num_new,
        "vanished": update.vanished,
        "skipped": [{"path": path, "reason": reason} for path, reason in update.skipped],
    }


def _table(update: Update) -> str:
    from ..output.report import printable

    rows = update.table.rows
    keys = [(row["class"].strip().lower(), row.get("subcategory", "")) for row in rows]
    files = Counter(keys)
    works = Counter(key for key, _ in {(key, row["work"]) for key, row in zip(keys, rows, strict=True)})
    width = max(len("SUBCATEGORY"), *(len(printable(subcategory)) for _, subcategory in files))
    lines = [f"{'CLASS':10} {'SUBCATEGORY':{width}} {'FILES':>7} {'WORKS':>7}"]
    for key in sorted(files):
        lines.append(f"{key[0]:10} {printable(key[1]) or '-':{width}} {files[key]:7} {works[key]:7}")
    lines.append(f"{update.table.path}: {len(rows)} rows, {update.num_new} of them new")
    return "\n".join(lines)
