"""``reelkind web``: the page, its workers, and a server if none is named."""

from __future__ import annotations

import argparse
import os
import secrets
import signal
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .options.arguments import UsageError, positive
from .output.talk import say

DEFAULT_DATA = "reelkind-web"
TOKEN_VARIABLE, DATABASE_VARIABLE = "REELKIND_WEB_TOKEN", "REELKIND_WEB_DATABASE"
_MIB = 1 << 20
_TOKEN_BYTES = 24


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "web",
        help="a page in the browser: drop a video, see what it is and why",
        description="Serve a page and a JSON API, and start an inference server for them unless --url names one.",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; one that other machines reach needs a token (default: %(default)s)",
    )
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one (default: %(default)s)")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(DEFAULT_DATA),
        metavar="DIR",
        help="history, uploads, features (./%(default)s)",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", metavar="TRITON", help="server to ask, or servers: as --url of `reelkind classify`")
    where.add_argument(
        "--bundle",
        action="append",
        metavar="DIR",
        help="serve this bundle; again for several (default: all that come with the package)",
    )
    parser.add_argument(
        "--workers", type=positive, default=2, metavar="N", help="jobs at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--max-upload", type=positive, default=2048, metavar="MIB", help="largest file (default: %(default)s)"
    )
    parser.add_argument(
        "--max-minutes", type=positive, default=240, metavar="N", help="longest video (default: %(default)s)"
    )
    parser.add_argument(
        "--max-queue", type=positive, default=200, metavar="N", help="jobs that may wait (default: %(default)s)"
    )
    parser.add_argument(
        "--keep-days", type=positive, default=7, metavar="N", help="uploads are removed after (default: %(default)s)"
    )
    parser.add_argument(
        "--keep-gib", type=positive, default=20, metavar="N", help="... or where they need more (default: %(default)s)"
    )
    parser.add_argument("--allow-urls", action="store_true", help="fetch videos from public web addresses, too")
    parser.add_argument(
        "--no-prefetch", action="store_true", help="compute no features ahead for questions that may come"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from reelkind.web.fleet import Fleet, listen
    from reelkind.web.settings import Limits, Settings, is_loopback

    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token and not is_loopback(args.host):
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        print(f"token: {token}", flush=True)  # of this run; $REELKIND_WEB_TOKEN sets one that stays
    if not 0 <= args.port < 65536:
        raise UsageError(f"--port must be from 0 to 65535, got {args.port}")
    limits = Limits(
        upload_bytes=args.max_upload * _MIB,
        duration_s=args.max_minutes * 60,
        queued=args.max_queue,
        keep_s=args.keep_days * 86_400,
        keep_bytes=args.keep_gib * 1024 * _MIB,
    )
    settings = Settings(
        args.data,
        args.url or "",
        args.host,
        token,
        os.environ.get(DATABASE_VARIABLE, ""),
        args.workers,
        args.allow_urls,
        not args.no_prefetch,
        limits,
    )
    settings.prepare()
    signal.signal(signal.SIGTERM, _stop)
    with ExitStack() as stack:
        listener = stack.enter_context(listen(args.host, args.port))
        try:
            if not args.url:
                settings = replace(settings, url=_start_server(args.bundle, stack))
            fleet = stack.enter_context(Fleet(settings, listener))
            fleet.wait_until_served()
            say("ready; Ctrl-C ends it" if args.url else "ready, with a server of its own; Ctrl-C ends both")
            print(f"http://{_shown(args.host)}:{listener.getsockname()[1]}/", flush=True)
            fleet.watch()
        except KeyboardInterrupt:
            say("stopping")
    return 0


def _start_server(bundles: list[str] | None, stack: ExitStack) -> str:
    """Serve bundles for as long as the page is; the server's address."""
    from reelkind.deployment.embedded import embedded_server, packaged_bundles

    say("starting the inference server")
    return stack.enter_context(embedded_server(bundles or packaged_bundles(), progress=say)).url


def _shown(host: str) -> str:
    """A host as browsers on this machine write it."""
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    return f"[{named}]" if ":" in named and not named.startswith("[") else named


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
