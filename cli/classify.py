"""``reelkind classify``: files, folders or a list of paths to labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .options import connecting, inputs
from .options.arguments import UsageError, positive
from .output import printing
from .output.talk import EXIT_FAILED, say

if TYPE_CHECKING:
    from reelkind.client import Client, FeatureCache
    from reelkind.video.fetching import Fetcher

    from .options.inputs import Input
    from .output.report import Answer, Report


_DESCRIPTION = """\
Tell what kind of picture each video is: animation, gaming, natural or flat.

Results go to stdout in the order of the arguments, one a video; talk goes to stderr.
Exit status: 0 every video has an answer, 1 some have none, 2 wrong usage."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand; nothing heavy is imported."""
    parser = subparsers.add_parser(
        "classify",
        help="tell what kind of picture videos are",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs.add_arguments(parser, "video, picture or features file, or its URL (http, https, s3)")
    printing.add_shape(parser, jsonl="one JSON object a video", csv="a header, then one row a video")
    parser.add_argument("--top-k", type=positive, default=1, metavar="N", help="show the N likeliest classes (table)")
    parser.add_argument("--attention", action="store_true", help="add each frame's weight and time (--jsonl)")
    parser.add_argument(
        "--embedding", action="store_true", help="add the embedding, for search and clustering (--jsonl)"
    )
    parser.add_argument(
        "--subcategories", action="store_true", help="all 46 of them instead of the likeliest five (--jsonl)"
    )
    printing.add_output(parser)
    connecting.add_arguments(parser)
    connecting.add_abstaining(parser)
    connecting.add_decoding(parser)
    connecting.add_seeking(parser)
    connecting.add_frames(parser)
    parser.add_argument(
        "--cache", action="store_true", help="keep features of videos, and start from them where they are known"
    )
    parser.add_argument("--cache-dir", metavar="DIR", help="... in this folder (default: the user's cache)")
    printing.add_progress(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Classify everything named; see the description of the command."""
    if (args.attention or args.embedding or args.subcategories) and not args.jsonl:
        raise UsageError("--attention, --embedding and --subcategories are for --jsonl")
    with printing.results(args.output), ExitStack() as stack:
        passed_over = inputs.PassedOver()
        found = inputs.expand(args.paths, sys.stdin, passed_over, null=args.null, pictures=args.pictures)
        status = _classify(args, found, stack)
        passed_over.say()
        return status


def _classify(args: argparse.Namespace, found: list[Input] | Iterator[Input], stack: ExitStack) -> int:
    from reelkind.client import Failure
    from reelkind.client.transport.threads import run_many
    from reelkind.core.errors import VideoError
    from reelkind.core.specs import Models

    from .output import report as _report

    if found == []:
        if args.csv:
            _report.Csv()  # without rows
        return printing.say_nothing_named()
    if inputs.is_hopeless(found):
        failures = (Failure(item.path, VideoError(item.path, item.problem or "")) for item in found)
        return _print_all(_report.make(args, found, None), failures, found, args)
    decoder = connecting.decoder(args, stack)
    client = connecting.connect(args, stack, decoder, needs=Models._fields, cache=_cache(args))
    info = client.server_info()
    _report.warn_untrained(info)
    answer = partial(_answer, client, inputs.fetcher(args, stack))
    answers = run_many(answer, found, decoder.num_workers + 2, ordered=True)  # two more: they keep the server busy
    return _print_all(_report.make(args, found, info), answers, found, args)


def _print_all(report: Report, answers: Iterable[Answer], found: Any, args: argparse.Namespace) -> int:
    from reelkind.client import Failure

    from .output.report import CountBar, Table

    total = len(found) if isinstance(found, list) else None
    num_answers = num_failed = 0
    with CountBar(total, shown=not args.no_progress) as progress:
        for answer in answers:
            num_answers += 1
            num_failed += isinstance(answer, Failure)
            with progress.hidden():
                report.add(answer)
            progress.advance()
    if isinstance(report, Table):
        report.finish()
    if num_failed and num_answers > 1:
        say(f"{num_failed} of {num_answers} without an answer")
    return EXIT_FAILED if num_failed else 0


def _answer(client: Client, fetching: Fetcher, item: Input) -> Answer:
    from reelkind.client import Failure
    from reelkind.core.errors import ReelkindError

    try:
        with inputs.on_disk(item, fetching) as path:
            return replace(client.classify(path), path=item.path)
    except ReelkindError as error:
        return Failure(item.path, error)


def _cache(args: argparse.Namespace) -> FeatureCache | None:
    from reelkind.client import FeatureCache

    return FeatureCache(args.cache_dir) if args.cache or args.cache_dir else None
