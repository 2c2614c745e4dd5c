"""``reelkind bulk``: a folder, a manifest or a list of URIs to one Parquet table, and a report on it."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..options import connecting
from ..options.arguments import UsageError
from ..options.inputs import PassedOver
from ..output import printing
from ..output.talk import EXIT_FAILED, EXIT_OK, say
from . import report

if TYPE_CHECKING:
    from reelkind.bulk.node_servers import NodeServers
    from reelkind.bulk.parts import Writer

REPORT = "report"

_DESCRIPTION = """\
Classify any number of videos into Parquet parts below DIR, one row an input; run it again to go on
where it was interrupted. `reelkind bulk report DIR` tells what came out, and writes DIR/report.html.

INPUT is a folder, a manifest (.csv, .jsonl, .parquet) or - for a list on stdin; its URIs are local
paths, file://, s3://, http:// or https://.
Exit status: 0 every input has its row (of files that are no videos, one that says why), 1 some have none."""


def add_parser(subparsers: Any) -> None:
    """Add the subcommand; nothing heavy is imported."""
    parser = subparsers.add_parser(
        "bulk",
        help="classify millions of videos into a Parquet table, on one machine or a Ray cluster",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("input", metavar="INPUT", help="folder, manifest or -; or the word report")
    parser.add_argument("table", nargs="?", metavar="DIR", help="after report: the folder of a table")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the parts, made if need be")
    parser.add_argument("--column", default="uri", metavar="NAME", help="of a manifest's URIs (default: %(default)s)")
    parser.add_argument(
        "--refetch", action="store_true", help="do again what could not be fetched, e.g. since its server was away"
    )
    parser.add_argument("--timeline", action="store_true", help="add segments: the whole of each video is read")
    parser.add_argument("--embedding", action="store_true", help="add embeddings")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="Ray cluster to run on, auto for that of this machine; needs --url or --local-server "
        "(default: a Ray of its own)",
    )
    parser.add_argument(
        "--local-server", action="store_true", help="start a server on every node, which its own videos go to"
    )
    connecting.add_arguments(parser)
    connecting.add_abstaining(parser)
    connecting.add_decoding(parser)
    connecting.add_seeking(parser)
    connecting.add_frames(parser)
    printing.add_progress(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run a job or report on a table."""
    if args.table is not None:
        if args.input != REPORT or args.out is not None:
            raise UsageError("write `reelkind bulk INPUT --out DIR` or `reelkind bulk report DIR`")
        return report.run(args)
    if args.out is None:
        raise UsageError("say with --out which folder the table goes to")
    if args.local_server and args.url:
        raise UsageError("--local-server starts the servers that --url would name: leave one of them out")
    if args.ray and not (args.url or args.local_server):
        raise UsageError("nodes of a cluster do not reach a server of this process: give --url or --local-server")
    from reelkind.bulk import inputs, parts
    from reelkind.core.errors import FetchError

    passed_over = PassedOver(pictures=False)
    uris = inputs.read_uris(args.input, args.column, sys.stdin.buffer, passed_over)
    passed_over.say()
    with parts.held(args.out):
        if args.refetch and (num_again := parts.forget(args.out, uris, FetchError.__name__)):
            say(f"{num_again} that could not be fetched are done again")
        finished = set(parts.read(args.out, ["uri"]).column("uri").to_pylist())
        missing = [uri for uri in uris if uri not in finished]
        if len(missing) < len(uris):
            say(f"{len(uris) - len(missing)} of {len(uris)} have their row already")
        return _classify(missing, len(uris), parts.Writer(args.out, finished), args) if missing else EXIT_OK


def _classify(missing: list[str], num_all: int, writer: Writer, args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from reelkind.bulk.classifier import Task
    from reelkind.bulk.job import run as run_job

    with ExitStack() as stack:
        task = Task(
            _server(args, stack),
            connecting.client_options(args),
            connecting.decoder_options(args),
            str(Path.cwd()),
            timeline=args.timeline,
            embedding=args.embedding,
        )
        bar = stack.enter_context(
            tqdm(total=num_all, initial=num_all - len(missing), unit="video", disable=args.no_progress, mininterval=1)
        )
        reason = run_job(missing, task, writer, num_actors=args.jobs, address=args.ray, progress=bar.update)
    if reason is not None:
        num_rowless = sum(uri not in writer.finished for uri in missing)
        say(f"{num_rowless} of {num_all} have no row yet: run the same command again ({reason})")
        return EXIT_FAILED
    say(f"{num_all} rows in {args.out}")
    return EXIT_OK


def _server(args: argparse.Namespace, stack: ExitStack) -> str | NodeServers:
    """Address of the server that was named, is there or is started for the run; else what each node has to serve."""
    from reelkind.client import InlineDecoder
    from reelkind.core.specs import Models, models_of

    needs = Models._fields if args.timeline else ("classify",)
    if args.local_server:
        from reelkind.bulk.node_servers import NodeServers
        from reelkind.deployment.embedded import packaged_bundle

        bundles = tuple(str(Path(each).absolute()) for each in args.bundle or [packaged_bundle(args.member)])
        models = models_of(connecting.group(args), args.tta)
        return NodeServers(bundles, tuple(getattr(models, kind) for kind in needs))
    client = connecting.connect(args, stack, InlineDecoder(), needs=needs)
    client.server_info()
    return client.url
