"""``reelkind bench``: how fast this machine, or a server, is; what else would be; where the time goes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelkind.deployment.embedded import packaged_bundle

from .options.arguments import UsageError, positive
from .output.talk import say

_DESCRIPTION = """\
Measure. Every verb takes --quick (at most three minutes on two cores; figures to try it with, not to quote) and --json
FILE, which also writes FILE's name with .csv, and for serve and peers a page with plots. How to read the figures:
docs/benchmarks.md. Close what else runs on the machine first."""


def add_parser(subparsers: Any) -> None:
    """Add ``bench`` and its verbs; nothing heavy is imported."""
    parser = subparsers.add_parser(
        "bench",
        help="measure serving, other ways to do the same, decoding, and what cost depends on",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_serve(verbs)
    _add_peers(verbs)
    _add_decode(verbs)
    _add_scale(verbs)


def _add_common(parser: argparse.ArgumentParser, *, repeats: int, members: bool = True) -> None:
    parser.add_argument("--quick", action="store_true", help="at most three minutes on two cores")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report to this file, CSV beside it")
    parser.add_argument("--repeats", type=positive, metavar="N", help=f"of every setting (default: {repeats})")
    if members:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--bundle", action="append", type=Path, metavar="DIR", help="what is served; again for others"
        )
        which.add_argument("--member", metavar="NAME", help="a packaged member, e.g. lite (default: clip)")


def _add_serve(verbs: Any) -> None:
    parser = verbs.add_parser("serve", help="a server under the load of Triton's perf_analyzer")
    _add_common(parser, repeats=3)
    parser.add_argument("--url", metavar="HOST:PORT", help="a server that runs (default: one is started)")
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="an ensemble or composing model; again for others; those it is made of are measured alone (default: all)",
    )
    parser.add_argument("--concurrency", type=positive, nargs="+", metavar="N", help="closed loops (default: 1 2 4 8)")
    parser.add_argument("--batch", type=positive, nargs="+", metavar="N", help="videos in a request (default: 1 2 4)")
    parser.add_argument(
        "--rate",
        type=_rate_share,
        nargs="*",
        metavar="SHARE",
        help="open loops, as shares of the capacity (default: 0.3 0.5 0.7 0.9 1 1.2 1.5)",
    )
    parser.add_argument(
        "--tensors", choices=("wire", "shared-memory", "both"), help="how they reach the server (default: both)"
    )
    parser.add_argument("--frames", type=positive, metavar="T", help="of a clip (default: the model's own)")
    parser.add_argument("--window", type=_window_s, metavar="S", help="seconds of a repeat, at least (default: 5)")
    parser.set_defaults(run=run_serve)


def _add_peers(verbs: Any) -> None:
    parser = verbs.add_parser("peers", help="file to label by reelkind and by what one would write or take instead")
    _add_common(parser, repeats=5)
    _add_clips(parser)
    parser.add_argument("--callers", type=positive, default=2, metavar="N", help="at once (default: %(default)s)")
    parser.add_argument("--peer", action="append", metavar="NAME", help="only this row; again for others")
    parser.set_defaults(run=run_peers)


def _add_decode(verbs: Any) -> None:
    parser = verbs.add_parser("decode", help="the frames of a clip out of long and short videos, by several libraries")
    _add_common(parser, repeats=3, members=False)
    parser.add_argument("--frames", type=positive, default=16, metavar="T", help="of a clip (default: %(default)s)")
    parser.add_argument("--reader", action="append", metavar="NAME", help="only this one; again for others")
    parser.add_argument(
        "--videos", type=Path, metavar="DIR", help="keep the made videos here (default: the user's cache)"
    )
    parser.set_defaults(run=run_decode)


def _add_scale(verbs: Any) -> None:
    parser = verbs.add_parser("scale", help="what a clip costs against frames, views, members, length and clients")
    _add_common(parser, repeats=3, members=False)
    parser.add_argument("--member", metavar="NAME", help="a packaged member, e.g. lite (default: clip)")
    parser.set_defaults(run=run_scale)


def _add_clips(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled clips (default: the four samples)")
    parser.add_argument("--sources", nargs="+", default=["clips"], metavar="NAME", help="folders of --data")
    parser.add_argument("--clips", type=positive, metavar="N", help="of them, evenly by class (default: all; quick: 4)")


def run_serve(args: argparse.Namespace) -> int:
    """Print the tables; 1 if a setting could not be run."""
    from reelkind.benchmarks.load import serve, serve_page

    if args.url and (args.bundle or args.member):
        raise UsageError("--url names a server that has its members: leave --bundle and --member out")
    plan = serve.narrowed(
        serve.QUICK if args.quick else serve.Plan(),
        models=None if args.model is None else tuple(args.model),
        concurrencies=None if args.concurrency is None else tuple(args.concurrency),
        batches=None if args.batch is None else tuple(args.batch),
        shares=None if args.rate is None else tuple(args.rate),
        ways={None: None, "both": (False, True), "wire": (False,), "shared-memory": (True,)}[args.tensors],
        repeats=args.repeats,
        window_s=args.window,
    )
    report = serve.measure(plan, _folders(args), args.url, progress=say, num_frames=args.frames, quick=args.quick)
    _finish(args, report, serve_page.page(report), serve_page.PLOTS)
    return 1 if any("reason" in row for row in report["rows"]) else 0


def run_peers(args: argparse.Namespace) -> int:
    """Print the table; rows that cannot run here say why."""
    from reelkind.benchmarks.peers import peers

    report = peers.measure(
        _folders(args)[0],
        peers.clips(args.data, args.sources, args.clips or (4 if args.quick else None)),
        callers=args.callers,
        repeats=args.repeats or (3 if args.quick else 5),
        wanted=args.peer,
        quick=args.quick,
        progress=say,
    )
    _finish(args, report, peers.page(report), peers.PLOTS)
    return 0


def run_decode(args: argparse.Namespace) -> int:
    """Print the table; rows that cannot run here say why."""
    from reelkind.benchmarks import decode

    report = decode.measure(
        quick=args.quick,
        num_frames=args.frames,
        repeats=args.repeats or 3,
        wanted=args.reader,
        folder=args.videos,
        progress=say,
    )
    _finish(args, report, decode.page(report), {})
    return 0


def run_scale(args: argparse.Namespace) -> int:
    """Print the table with the slopes."""
    from reelkind.benchmarks import scale

    report = scale.measure(
        args.member or packaged_bundle(None).name, quick=args.quick, repeats=args.repeats or 3, progress=say
    )
    _finish(args, report, scale.page(report), scale.PLOTS)
    return 0


def _folders(args: argparse.Namespace) -> list[Path]:
    """The bundles that were named, or the packaged one."""
    if args.bundle:
        return list(args.bundle)
    folder = packaged_bundle(args.member)
    if args.member and folder.name != args.member:
        raise UsageError(f"no packaged member is called {args.member}: name its folder with --bundle")
    return [folder]


def _finish(args: argparse.Namespace, report: Mapping[str, Any], page: str, plots: Mapping[str, Any]) -> None:
    """The page to stdout; everything to files, if they are wanted."""
    text = "\n".join(line for line in page.splitlines() if not line.startswith("!["))
    print(text)
    if args.json:
        from reelkind.benchmarks.reports import write

        for file in write(args.json, report, page, plots):
            say(f"wrote {file}")


def _rate_share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 3 times the capacity, got {text}")
    return value


def _window_s(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 600:
        raise argparse.ArgumentTypeError(f"must be from 0.1 to 600 seconds, got {text}")
    return value
