"""The ``reelkind`` command: one module a subcommand, loaded only to the depth its work needs."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from reelkind.core.errors import ReelkindError

from . import classify, export, serve, train

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

_SUBCOMMANDS = (classify, serve, train, export)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, without importing what the subcommands will need."""
    parser = argparse.ArgumentParser(
        prog="reelkind", description="Tell what kind of picture a video is: animation, gaming, natural or flat."
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more talk on stderr; twice for debugging")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in _SUBCOMMANDS:
        module.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand: results to stdout, talk to stderr; 0 ok, 1 failed, 2 usage."""
    args = build_parser().parse_args(argv)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(args.verbose, 2)]
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    try:
        status: int = args.run(args)
        return status
    except ReelkindError as error:
        print(f"reelkind: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("reelkind: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
