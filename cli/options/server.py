"""What ``reelkind serve`` offers beyond answers, from the command line: TLS, HTTP, response cache, traces."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import UsageError, positive

if TYPE_CHECKING:
    from reelkind.serving.options import ServerOptions

_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def add_option_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe them."""
    parser.add_argument(
        "--response-cache",
        type=_num_bytes,
        default=0,
        metavar="SIZE",
        help="memory for answers to frames seen before, e.g. 64MiB (default: none)",
    )
    parser.add_argument(
        "--open-http",
        action="store_true",
        help="with --host: take inference by HTTP from whoever reaches it, not only from holders of the server's key; "
        "one message of theirs can end it",
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="encrypt gRPC with this certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    parser.add_argument(
        "--tls-client-ca",
        type=Path,
        metavar="FILE",
        help="let in only clients with a certificate signed by these (PEM)",
    )
    traces = parser.add_mutually_exclusive_group()
    traces.add_argument(
        "--trace-otlp", metavar="URL", help="send traces to this collector, e.g. http://localhost:4318/v1/traces"
    )
    traces.add_argument("--trace-file", type=Path, metavar="FILE", help="write traces to this file at the end, as JSON")
    parser.add_argument(
        "--trace-rate", type=positive, metavar="N", help="trace one request in N (default: 1, every one)"
    )


def server_options(args: argparse.Namespace) -> ServerOptions:
    """What the arguments ask for.

    Raises:
        UsageError: if they do not fit together.
        ServingError: if a certificate is no good.
    """
    from reelkind.serving.options import ServerOptions, Tracing
    from reelkind.serving.tls import ServerTls

    tls, tracing = None, None
    if args.tls_cert or args.tls_key or args.tls_client_ca:
        if not (args.tls_cert and args.tls_key):
            raise UsageError("TLS needs both --tls-cert and --tls-key")
        tls = ServerTls(args.tls_cert, args.tls_key, args.tls_client_ca)
        tls.check()
        if args.open_http:
            raise UsageError("--open-http does not go with TLS: tritonserver cannot encrypt HTTP")
    if args.trace_otlp or args.trace_file:
        tracing = Tracing(args.trace_otlp, args.trace_file, args.trace_rate or 1)
    elif args.trace_rate:
        raise UsageError("--trace-rate needs --trace-otlp or --trace-file, which say where traces go")
    return ServerOptions(
        tls=tls,
        response_cache_bytes=args.response_cache,
        tracing=tracing,
        open_http=True if args.open_http else None,
    )


def prepare_response_cache(args: argparse.Namespace, repository: Path) -> None:
    """Ensembles opt in by their configuration, which is ours to write only where the repository is.

    Raises:
        ServingError: if none in somebody else's repository does.
    """
    from reelkind.serving.errors import ServingError
    from reelkind.serving.models import allow_response_cache, ensemble_configs

    if not args.response_cache:
        return
    if args.repository is None:
        allow_response_cache(repository)
    elif not any(config.response_cache.enable for config in ensemble_configs(repository).values()):
        raise ServingError(
            f"no ensemble in {repository} uses a response cache: add `response_cache {{ enable: true }}` to the "
            "config.pbtxt of those that should"
        )


def _num_bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMG]iB)?", text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"must look like 64MiB (or KiB, GiB), got {text!r}")
    return int(found[1]) * _UNITS[found[2] or ""]
