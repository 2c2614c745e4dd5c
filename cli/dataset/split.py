"""``reelkind dataset split``: rows without a split get one, works whole."""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..output.talk import say

if TYPE_CHECKING:
    from reelkind.datasets.splitting import Member, Shares


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "split",
        help="divide manifests into train, val and test by work",
        description="Give every row without a split one: works stay whole, classes and subcategories spread evenly. "
        "A row that has a split keeps it for ever; new files of a known work follow it. Several manifests are split "
        "together, so that no work is divided between them.",
    )
    parser.add_argument("data", nargs="+", type=Path, help="folders with a manifest.csv, or folders of such folders")
    parser.add_argument(
        "--shares",
        type=_shares,
        default="70/20/10",
        metavar="TRAIN/VAL/TEST",
        help="per cents of the files (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides between equals (default: %(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="print the result without writing it")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Split, and print how the shares came out."""
    from reelkind.core.taxonomy.classes import CLASSES
    from reelkind.datasets.manifest import find_manifests
    from reelkind.datasets.samples import SPLITS
    from reelkind.datasets.splitting import split_manifests

    manifests = find_manifests(args.data)
    members = split_manifests(manifests, args.shares, args.seed, write=not args.dry_run)
    counted = [member for member in members if member.counts and member.split]
    if args.json:
        print(json.dumps(_as_json(counted, manifests), indent=2))
    else:
        print(_table(counted))
    if len(members) > len(counted):
        number = len(members) - len(counted)
        say(f"{number} rows that training leaves out are not counted")
    for number, class_name in enumerate(CLASSES):
        present = {member.split for member in counted if member.sample.label == number}
        lacking = [split for split in SPLITS if args.shares.of(split) and split not in present]
        if present and lacking:
            say(f"{class_name} has no works in {', '.join(lacking)}: collect more works")
    return 0


def _shares(text: str) -> Shares:
    from reelkind.datasets.splitting import Shares

    try:
        return Shares.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _rows(members: Sequence[Member]) -> dict[tuple[str, str], list[Member]]:
    """Members of every class and subcategory, ("all", "") last."""
    from reelkind.core.taxonomy.classes import CLASSES

    rows: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member in members:
        class_name = CLASSES[member.sample.label]
        rows[class_name, ""].append(member)
        if member.sample.subcategory:
            rows[class_name, member.sample.subcategory].append(member)
    ordered = sorted(rows, key=lambda key: (CLASSES.index(key[0]), key[1]))
    return {key: rows[key] for key in ordered} | {("all", ""): list(members)}


def _as_json(members: Sequence[Member], manifests: Sequence[Path]) -> dict[str, object]:
    table = [
        {"class": key[0], "subcategory": key[1], "files": dict(Counter(member.split for member in row))}
        for key, row in _rows(members).items()
    ]
    return {"manifests": [str(manifest) for manifest in manifests], "shares": table}


def _table(members: Sequence[Member]) -> str:
    from reelkind.datasets.samples import SPLITS

    from ..output.report import printable

    rows = _rows(members)
    width = max(len("CLASS"), *(len(printable(name)) + 2 if name else len(key) for key, name in rows))
    lines = [f"{'CLASS':{width}} {'FILES':>6} {'WORKS':>6} " + "".join(f"{split.upper():>14}" for split in SPLITS)]
    for (class_name, subcategory), row in rows.items():
        title = f"  {printable(subcategory)}" if subcategory else class_name
        files = Counter(member.split for member in row)
        cells = [f"{files[split]:6} ({files[split] / max(1, len(row)):5.1%})" for split in SPLITS]
        works = len({member.sample.work for member in row})
        lines.append(f"{title:{width}} {len(row):6} {works:6} " + "".join(cells))
    return "\n".join(lines)
