"""``reelkind classify``: files, folders or a list of paths to labels."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .options import connecting, inputs
from .options.arguments import UsageError, positive
from .output import printing
from .output.talk import EXIT_FAILED, say

if TYPE_CHECKING:
    from reelkind.client import Client, Failure, FeatureCache

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
    inputs.add_arguments(parser, "video, picture or features file; folder, searched to any depth; - for stdin")
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
        return _classify(args, inputs.expand(args.paths, sys.stdin, null=args.null), stack)


def _classify(args: argparse.Namespace, found: list[Input] | Iterator[Input], stack: ExitStack) -> int:
    from reelkind.core.specs import Models

    from .output import report as _report

    if found == []:
        if args.csv:
            _report.Csv()  # without rows
        return printing.say_nothing_named()
    if inputs.is_hopeless(found):
        return _print_all(_report.make(args, found, None), map(_failure, found), found, args)
    decoder = connecting.decoder(args, stack)
    client = connecting.connect(args, stack, decoder, needs=Models._fields, cache=_cache(args))
    info = client.server_info()
    _report.warn_untrained(info)
    return _print_all(_report.make(args, found, info), _answers(client, found, args.jobs), found, args)


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


def _answers(client: Client, found: Iterable[Input], jobs: int | None) -> Iterator[Answer]:
    """Answers in the order of the inputs, those that are no files among them."""
    from collections import deque

    problems: deque[tuple[int, Failure]] = deque()  # with the number of files before each
    num_files = 0

    def files() -> Iterator[str]:
        nonlocal num_files
        for item in found:
            if item.problem is None:
                num_files += 1
                yield item.path
            else:
                problems.append((num_files, _failure(item)))

    answers = client.classify_many(files(), concurrency=None if jobs is None else jobs + 2)
    for num_answered, answer in enumerate(answers):
        while problems and problems[0][0] <= num_answered:
            yield problems.popleft()[1]
        yield answer
    while problems:
        yield problems.popleft()[1]


def _failure(item: Input) -> Failure:
    from reelkind.client import Failure
    from reelkind.core.errors import VideoError

    return Failure(item.path, VideoError(item.path, item.problem or ""))


def _cache(args: argparse.Namespace) -> FeatureCache | None:
    from reelkind.client import FeatureCache

    return FeatureCache(args.cache_dir) if args.cache or args.cache_dir else None
