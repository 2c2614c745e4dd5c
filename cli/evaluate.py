"""``reelkind evaluate``: bundles and labelled files to a report of how good they are."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options.arguments import UsageError, positive, share
from .options.bundles import load_all
from .output.talk import EXIT_FAILED, EXIT_OK, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reelkind.core.bundle import Bundle


_DESCRIPTION = """\
Measure bundles on labelled clips and stills, through the graphs that are served, and write a report.

Several bundles are compared pair by pair and measured as an ensemble. Answers are kept by the file's content and
the bundle's weights, so that nothing is predicted twice.
Exit status: 0 every file was measured, 1 some were not (the report says which), 2 wrong usage."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand; nothing heavy is imported."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure bundles on labelled files",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="folder of a trained, exported bundle")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="holds manifest.csv, or folders that hold one each")
    parser.add_argument(
        "--sources", nargs="+", metavar="NAME", help="folders of --data (default: all that have a manifest)"
    )
    parser.add_argument(
        "--readings", default="", metavar="FILE", help="in --data: a second reading that corrects the manifests"
    )
    parser.add_argument(
        "--split",
        choices=("val", "test", "train", "held-out"),
        default="val",
        help="held-out: the cross-validated predictions that `reelkind train` left in the bundle's folder, without "
        "--data (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="of the report; an old one is replaced"
    )
    parser.add_argument("--tta", action="store_true", help="also with test-time augmentation, fast and full")
    parser.add_argument("--shortcuts", action="store_true", help="also on damaged copies of every file (slow)")
    parser.add_argument("--baselines", action="store_true", help="also simple classifiers, trained on split train")
    parser.add_argument(
        "--wanted-accuracy",
        type=share,
        default=0.95,
        metavar="SHARE",
        help="of the answers kept when unsure ones are withheld (default: %(default)s)",
    )
    parser.add_argument("--record", action="store_true", help="put numbers, plots and text into the bundles' cards")
    parser.add_argument(
        "--contact-sheet", action="store_true", help="pictures of the wrong clips, which may not be yours to publish"
    )
    parser.add_argument("--json", action="store_true", help="the whole report on stdout, not only its table")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="answers and damaged copies are kept here (default: in the user's cache)",
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes that decode (default: one a CPU)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write the report, print its table."""
    from reelkind.core.files.user_cache import user_cache
    from reelkind.evaluation.evaluate import Wanted, evaluate
    from reelkind.evaluation.report import headlines

    _refuse_contradictions(args)
    bundles = load_all(args.bundles)
    _refuse_other_folders(args.out)
    args.cache = args.cache or user_cache("evaluation")
    wanted = Wanted(**{each.name: getattr(args, each.name) for each in fields(Wanted)})
    report = evaluate(bundles, wanted)
    pictures = _write(report, bundles, args)
    if args.record:
        _record(report, bundles, pictures, args)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(headlines(report)))
        for name, found in report.get("shortcuts", {}).items():
            print(f"shortcuts of {name}: {', '.join(found['flagged']) or 'none'} cost more than allowed")
        print(f"report: {args.out}")
    return EXIT_FAILED if report["problems"] else EXIT_OK


def _refuse_contradictions(args: argparse.Namespace) -> None:
    needs_files = args.tta or args.shortcuts or args.baselines or args.contact_sheet
    if args.split == "held-out" and (args.data or needs_files):
        raise UsageError("--split held-out reads no files: leave --data and options that need files out")
    if args.split != "held-out" and args.data is None:
        raise UsageError(f"--split {args.split} needs --data FOLDER")


def _write(report: Mapping[str, Any], bundles: Sequence[Bundle], args: argparse.Namespace) -> list[str]:
    from reelkind.core.files.whole_files import write_whole
    from reelkind.evaluation.plots import draw
    from reelkind.evaluation.report import PAGE_NAME, REPORT_NAME, render

    logs = {bundle.name: bundle.path("metrics.jsonl") for bundle in bundles}
    pictures = draw(report, args.out, {name: path for name, path in logs.items() if path.is_file()})
    write_whole(args.out / REPORT_NAME, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_whole(args.out / PAGE_NAME, render(report, pictures))
    return pictures


def _record(
    report: Mapping[str, Any], bundles: Sequence[Bundle], pictures: Sequence[str], args: argparse.Namespace
) -> None:
    from reelkind.evaluation.card import record
    from reelkind.evaluation.report import for_member

    for bundle in bundles:
        prefix = f"{bundle.name}-"  # no name of a bundle holds a hyphen
        plots = {name.removeprefix(prefix): args.out / name for name in pictures if name.startswith(prefix)}
        record(bundle, args.split, for_member(report, bundle.name), plots, bundles)
        say(f"recorded in {bundle.folder}")


def _refuse_other_folders(folder: Path) -> None:
    """A folder that holds something else is not ours to write into."""
    from reelkind.core.errors import ReelkindError
    from reelkind.evaluation.report import REPORT_NAME

    if folder.is_dir() and any(folder.iterdir()) and not (folder / REPORT_NAME).is_file():
        raise ReelkindError(f"{folder} is not empty and holds no report: give --out a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
