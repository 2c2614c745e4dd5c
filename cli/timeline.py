"""``reelkind timeline``: long videos to what they show when."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import connecting, inputs
from .options.arguments import RATE, SWITCH_PENALTY, WINDOW_S, UsageError, frames_per_second, nats, seconds
from .output import printing
from .output.talk import EXIT_FAILED, EXIT_OK, say

if TYPE_CHECKING:
    from reelkind.client import Client, Timeline
    from reelkind.video.fetching import Fetcher

    from .options.inputs import Input
    from .output.timeline_report import TimelineReport


_DESCRIPTION = """\
Tell what kind of picture videos of any length show when: segments of animation, gaming, natural and flat.

Windows of frames are classified, by default two seconds every half second; the likeliest sequence of classes makes the
segments, whose borders are true to about half a window. Memory does not grow with the video.

Results go to stdout, talk to stderr: with --jsonl and --csv as they are final, the table when a video has been read.
Exit status: 0 every video has a timeline, 1 some have none or end too early, 2 wrong usage."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand; nothing heavy is imported."""
    parser = subparsers.add_parser(
        "timeline",
        help="tell what long videos show when",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs.add_arguments(
        parser, "video file, or features file made with a rate, or its URL (http, https, s3)", pictures=False
    )
    printing.add_shape(
        parser,
        jsonl="a JSON object a segment, and one a video, as they are final",
        csv="a header, then one row a segment and one a video",
    )
    parser.add_argument("--windows", action="store_true", help="a JSON object a window too (--jsonl)")
    parser.add_argument("--embeddings", action="store_true", help="windows with their embeddings (--jsonl)")
    parser.add_argument("--plot", type=_svg, metavar="FILE.svg", help="draw the timelines of all videos")
    parser.add_argument(
        "--rate",
        type=frames_per_second,
        metavar="R",
        help=f"frames a second to look at (default: {RATE:g}, or that of the features)",
    )
    parser.add_argument(
        "--window",
        type=seconds,
        default=WINDOW_S,
        metavar="S",
        help="seconds that are classified together: less for shorter segments (default: %(default)g)",
    )
    parser.add_argument(
        "--switch-penalty",
        type=nats,
        default=SWITCH_PENALTY,
        metavar="NATS",
        help="evidence that a change of class needs: less for more and shorter segments (default: %(default)g)",
    )
    printing.add_output(parser)
    connecting.add_arguments(parser)
    connecting.add_abstaining(parser)
    connecting.add_decoding(parser)
    printing.add_progress(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the timelines of everything named; see the description of the command."""
    if (args.windows or args.embeddings) and not args.jsonl:
        raise UsageError("--windows and --embeddings are for --jsonl")
    with printing.results(args.output), ExitStack() as stack:
        passed_over = inputs.PassedOver()
        status = _tell_all(args, inputs.expand(args.paths, sys.stdin, passed_over, null=args.null), stack)
        passed_over.say()
        return status


def _tell_all(args: argparse.Namespace, found: list[Input] | Iterator[Input], stack: ExitStack) -> int:
    from reelkind.core.specs import Models

    from .output import report as _report
    from .output import timeline_plot, timeline_report

    report = timeline_report.make(args)
    if found == []:
        return printing.say_nothing_named()
    client = None
    if not inputs.is_hopeless(found):
        args.jobs = args.jobs or 1  # one file at a time, whose decoder works beside the server
        client = connecting.connect(args, stack, connecting.decoder(args, stack), needs=Models._fields)
        _report.warn_untrained(client.server_info())
    timelines: list[Timeline] = []
    num_videos = num_failed = 0
    fetching = inputs.fetcher(args, stack)
    for item in found:
        num_videos += 1
        timeline = _tell(client, fetching, item, args, report)
        num_failed += timeline is None or timeline.error is not None
        if timeline is not None and args.plot:
            timelines.append(replace(timeline, windows=()))  # drawn are the segments
    if args.plot:
        timeline_plot.write(timelines, args.plot)
    if num_failed and num_videos > 1:
        say(f"{num_failed} of {num_videos} without a whole timeline")
    return EXIT_FAILED if num_failed else EXIT_OK


def _svg(text: str) -> Path:
    path = Path(text)
    if path.suffix != ".svg":
        raise argparse.ArgumentTypeError(f"must end with .svg, got {text!r}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"is a folder: {path}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no such folder: {path.parent}")
    return path


def _tell(
    client: Client | None, fetching: Fetcher, item: Input, args: argparse.Namespace, report: TimelineReport
) -> Timeline | None:
    """Print one video's windows and segments as they come; None if there is no timeline."""
    from reelkind.client import Failure, Timeline
    from reelkind.core.errors import ReelkindError, VideoError

    from .output.timeline_report import TimeBar

    try:
        if item.problem is not None or client is None:
            raise VideoError(item.path, item.problem or "")
        with (
            inputs.on_disk(item, fetching) as path,
            TimeBar(item.path, shown=not args.no_progress) as progress,
        ):
            events = client.stream_timeline(
                path,
                rate=args.rate,
                window_s=args.window,
                switch_penalty=args.switch_penalty,
                progress=progress.at,
            )
            for event in events:
                if isinstance(event, Timeline):
                    event = replace(event, path=item.path)
                with progress.hidden():
                    report.add(item.path, event)
                if isinstance(event, Timeline):
                    return event
    except ReelkindError as error:
        report.fail(Failure(item.path, error))
    return None
