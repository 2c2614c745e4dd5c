"""``reelkind health``: whether a server really answers, for probes of containers and services."""

from __future__ import annotations

import argparse
import os

from .options.arguments import seconds
from .options.connecting import URL_VARIABLE, add_tls, tls_of

_SIDE_PX = 32  # of the picture sent; the server scales it


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "health",
        help="ask a server for one answer: 0 if it gives one",
        description="Send one grey frame to the ensemble and wait for its answer. Readiness that Triton reports is not "
        "enough: it stays true when a model's process has died. A full queue counts as healthy. "
        "Exit status: 0 an answer, or a full queue; 1 neither.",
    )
    parser.add_argument(
        "--url", metavar="ADDRESS", help=f"as of the client (default: ${URL_VARIABLE}, else 127.0.0.1:8001)"
    )
    parser.add_argument("--member", metavar="NAME", help="who is asked (default: the server's first)")
    parser.add_argument(
        "--timeout", type=seconds, default=10.0, metavar="S", help="seconds it may take (default: %(default)s)"
    )
    add_tls(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print who has answered; an error of the client otherwise."""
    import numpy as np

    from reelkind.client import DEFAULT_URL, Client, Prediction, ServerBusy

    url = args.url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    frame = np.full((1, _SIDE_PX, _SIDE_PX, 3), 128, np.uint8)  # [T, H, W, C]
    with Client(url, member=args.member, timeout_s=args.timeout, retry_s=0, tls=tls_of(args)) as client:
        try:
            answer = client.classify_frames(frame)
        except ServerBusy as error:
            print(f"healthy, but busy: {error}")
        else:
            assert isinstance(answer, Prediction)
            print(f"healthy: {answer.model.ensemble} of {', '.join(answer.model.members)} answers")
    return 0
