"""``reelkind dataset yt8m``: YouTube-8M's records to a folder of videos with a manifest."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from ..options.arguments import positive, seconds

_DESCRIPTION = """\
Choose videos from YouTube-8M's records, find out what they are called on YouTube, and fetch excerpts.

Everything lives in one folder, and every step can be stopped and run again: nothing is asked for, or fetched, twice.
docs/yt8m.md has the way from nothing."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``yt8m`` and its verbs."""
    parser = subparsers.add_parser(
        "yt8m",
        help="choose and fetch videos of YouTube-8M",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    _add_show(steps)
    _add_select(steps)
    _add_resolve(steps)
    _add_urls(steps)
    _add_fetch(steps)
    _add_features(steps)


def _add_step(steps: Any, name: str, about: str, more: str = "") -> Any:
    description = f"{about[0].upper()}{about[1:]}. {more}".strip()
    parser = steps.add_parser(name, help=about, description=description)
    parser.set_defaults(run=_run)
    return parser


def _run(args: argparse.Namespace) -> int:
    from .yt8m_steps import STEPS

    return STEPS[args.step](args)


def _add_show(steps: Any) -> None:
    parser = _add_step(steps, "show", "print what records hold: id, class and subcategory (or why none), labels")
    _add_shards(parser)


def _add_select(steps: Any) -> None:
    parser = _add_step(
        steps,
        "select",
        "choose videos evenly over the 46 subcategories",
        "Writes selection.csv. The choice depends on the videos seen, --videos and --seed only. Choose more than you "
        "want to end up with: many are gone from YouTube by now.",
    )
    _add_shards(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="working folder; created")
    parser.add_argument(
        "--videos", type=positive, default=4000, metavar="N", help="how many in total (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="the table as JSON")


def _add_resolve(steps: Any) -> None:
    parser = _add_step(
        steps,
        "resolve",
        "look up the YouTube ids of the chosen videos",
        "Answers go to resolved.jsonl at once; what is gone stands in dead.csv.",
    )
    _add_folder(parser)
    parser.add_argument("--base-url", metavar="URL", help="of the look-up (default: YouTube-8M's own)")
    parser.add_argument(
        "--rate", type=_rate, default=5.0, metavar="R", help="questions a second at most (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=20.0, metavar="S", help="seconds an answer may take (default: %(default)s)"
    )
    parser.add_argument("--retry-dead", action="store_true", help="ask again for those that were gone")
    parser.add_argument("--json", action="store_true", help="the counts as JSON")


def _add_urls(steps: Any) -> None:
    _add_folder(_add_step(steps, "urls", "print the watch pages of the videos found, for your own downloader"))


def _add_fetch(steps: Any) -> None:
    parser = _add_step(
        steps,
        "fetch",
        "fetch an excerpt of every video found by yt-dlp, and write manifest.csv",
        "Needs yt-dlp (pip install 'reelkind[yt8m]') and ffmpeg. You answer for having the right to: mind YouTube's "
        "terms and the law where you are.",
    )
    _add_folder(parser)
    parser.add_argument(
        "--start", type=_instant, default=30.0, metavar="S", help="second the excerpt starts at (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=30.0, metavar="S", help="its length at most (default: %(default)s)"
    )
    parser.add_argument(
        "--height",
        type=positive,
        default=360,
        metavar="PX",
        help="height at most (default: %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="S", help="seconds a video may take (default: %(default)s)"
    )
    parser.add_argument(
        "--yt-dlp-options",
        type=shlex.split,
        default=[],
        metavar="TEXT",
        help='handed on to yt-dlp, e.g. --yt-dlp-options="--cookies cookies.txt --sleep-interval 5"',
    )
    parser.add_argument("--json", action="store_true", help="the counts as JSON")


def _add_features(steps: Any) -> None:
    parser = _add_step(
        steps,
        "features",
        "copy the chosen videos' records out of frame-level shards",
        "The folder is what `reelkind train training/configs/yt8m_features.toml --data` takes.",
    )
    _add_folder(parser)
    _add_shards(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where they go (default: FOLDER/features)")


def _add_shards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shards", nargs="+", type=Path, metavar="SHARD", help="TFRecord file, or folder of them")


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the working folder, which has selection.csv")


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 100, got {text}")
    return value


def _instant(text: str) -> float:
    return seconds(text) if float(text) else 0.0
