"""``reelkind features``: videos to features files, once; and what the cache of features holds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import connecting, inputs
from .options.arguments import frames_per_second
from .output import printing
from .output.talk import EXIT_FAILED, EXIT_OK, say

if TYPE_CHECKING:
    from reelkind.client import Client
    from reelkind.core.features import Recipe
    from reelkind.video.fetching import Fetcher

    from .options.inputs import Input


_DESCRIPTION = """\
Have the backbone's features of videos computed once, and keep them: `reelkind classify` and `reelkind timeline`
start from such a file without the video, at next to no cost.

The path of each features file goes to stdout, talk to stderr; a file that is there already and still right is left as
it is, one made from something else is never overwritten unless asked for.
Exit status: 0 every video has its features, 1 some have none, 2 wrong usage."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommands; nothing heavy is imported."""
    parser = subparsers.add_parser("features", help="keep videos' features, and classify them without the videos")
    commands = parser.add_subparsers(dest="features_command", metavar="COMMAND", required=True)
    _add_extract(commands)
    _add_cache(commands)


def _add_extract(commands: Any) -> None:
    parser = commands.add_parser(
        "extract",
        help="videos to features files",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs.add_arguments(parser, "video or picture file, or its URL (http, https, s3)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for VIDEO.features.safetensors")
    parser.add_argument(
        "--rate",
        type=frames_per_second,
        metavar="R",
        help="frames a second, for `reelkind timeline` (default: the frames of a clip, for `reelkind classify`)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace features files made from something else")
    printing.add_output(parser)
    connecting.add_arguments(parser)
    connecting.add_decoding(parser)
    connecting.add_seeking(parser)
    printing.add_progress(parser)
    parser.set_defaults(run=run_extract)


def _add_cache(commands: Any) -> None:
    parser = commands.add_parser(
        "cache",
        help="the cache of features: where it is, what it holds",
        description="Show or clear the feature cache.",
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="folder (default: the user's cache)")
    parser.add_argument("--clear", action="store_true", help="remove all features in it")
    parser.set_defaults(run=run_cache)


def run_extract(args: argparse.Namespace) -> int:
    """Extract the features of everything named; see the description of the command."""
    with printing.results(args.output), ExitStack() as stack:
        passed_over = inputs.PassedOver()
        found = inputs.expand(
            args.paths, sys.stdin, passed_over, null=args.null, features=False, pictures=args.pictures
        )
        pairs = _with_targets(found, args.out)
        if not pairs:
            return printing.say_nothing_named()
        status = _extract_all(args, pairs, stack)
        passed_over.say()
        return status


def _extract_all(args: argparse.Namespace, pairs: list[tuple[Input, Path]], stack: ExitStack) -> int:
    from .output.report import CountBar

    args.out.mkdir(parents=True, exist_ok=True)
    problems: Iterator[str | None] = (f"{item.path}: {item.problem}" for item, _ in pairs)
    if not inputs.is_hopeless([item for item, _ in pairs]):
        decoding = connecting.decoder(args, stack)
        client = connecting.connect(args, stack, decoding, needs=("features",))
        work = partial(_extract, client, client.features_recipe(rate=args.rate), args, inputs.fetcher(args, stack))
        # Two more than decode keep the server busy; streams do that by themselves.
        pool = ThreadPoolExecutor(decoding.num_workers + (0 if args.rate else 2))
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # interrupted, closing the rest ends its work
        problems = pool.map(work, *zip(*pairs, strict=True))
    num_failed = 0
    with CountBar(len(pairs), shown=not args.no_progress) as progress:
        for (_, target), problem in zip(pairs, problems, strict=True):
            with progress.hidden():
                if problem is None:
                    print(target, flush=True)
                else:
                    num_failed += 1
                    say(problem)
            progress.advance()
    if num_failed and len(pairs) > 1:
        say(f"{num_failed} of {len(pairs)} without features")
    return EXIT_FAILED if num_failed else EXIT_OK


def run_cache(args: argparse.Namespace) -> int:
    """Say what the cache holds, after removing it if asked to."""
    from reelkind.client import FeatureCache

    cache = FeatureCache(args.folder)
    if args.clear:
        say(f"removed {cache.clear()} entries")
    info = cache.info()
    print(f"{info.folder}: {info.num_entries} entries, {info.num_bytes / 1e6:.1f} MB of {info.max_bytes / 1e6:.0f} MB")
    return 0


def _with_targets(found: Iterable[Input], folder: Path) -> list[tuple[Input, Path]]:
    """Each input once, with its features file; two videos may not write the same one."""
    from reelkind.core.files.features_files import SUFFIX

    by_target: dict[Path, Input] = {}
    pairs = []
    for item in dict.fromkeys(found):
        target = folder / (item.name + SUFFIX)
        if by_target.setdefault(target, item) is not item and item.problem is None:
            item = replace(item, problem=f"{by_target[target].path} has the same name: extract one into another folder")
        pairs.append((item, target))
    return pairs


def _extract(
    client: Client, recipe: Recipe, args: argparse.Namespace, fetching: Fetcher, item: Input, target: Path
) -> str | None:
    """Write one features file, unless it is there; return what went wrong."""
    from reelkind.core.errors import ReelkindError
    from reelkind.core.files import features_files

    try:
        with inputs.on_disk(item, fetching) as path:
            if target.exists() and not args.overwrite:
                return _what_differs(target, path, recipe)
            target.parent.mkdir(parents=True, exist_ok=True)
            features_files.save(client.extract_features(path, rate=args.rate), target)
    except ReelkindError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or target}: {error.strerror}"
    return None


def _what_differs(target: Path, path: str, recipe: Recipe) -> str | None:
    """Why a file that is there is not what would be written, or None."""
    from reelkind.client.source import source_of
    from reelkind.core.features import FeaturesError
    from reelkind.core.files import features_files

    way_out = "name another folder, or --overwrite it"
    try:
        found = features_files.load(target)
    except FeaturesError as error:
        return f"{error} ({way_out})"
    if found.source.sha256 != source_of(path).sha256:
        return f"{target} is there already, made from another video called {found.source.name}: {way_out}"
    if found.recipe != recipe:
        return f"{target} is there already, made from this video in another way: {way_out}"
    return None
