"""The ``reelkind`` command: one module a subcommand, loaded only to the depth its work needs."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

from reelkind.core.errors import ReelkindError

from . import bench, classify, completion, evaluate, features, health, plan, promote, serve, timeline, train, web
from .bulk import command as bulk
from .dataset import command as dataset
from .export import command as export
from .options.arguments import UsageError
from .output.talk import EXIT_BROKEN_PIPE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, say

_SUBCOMMANDS = (
    *(classify, timeline, bulk, features, serve, health, web, promote),
    *(dataset, train, evaluate, export, plan, bench, completion),
)
# What a subcommand's imports need.
_EXTRAS = {
    "dataset": "train,export",
    "train": "train",
    "evaluate": "train,export",
    "export": "export",
    "plan": "export",
    "bench": "bench",
    "bulk": "bulk",
    "promote": "export",
    "web": "web",
}

logger = logging.getLogger(__name__)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"reelkind {version('reelkind')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, without importing what the subcommands will need."""
    parser = argparse.ArgumentParser(
        prog="reelkind", description="Tell what kind of picture a video is: animation, gaming, natural or flat."
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="more talk on stderr; twice for debugging")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in _SUBCOMMANDS:
        module.add_parser(subparsers)
    parser.set_defaults(command_line=parser)  # which what completes it reads
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand: results to stdout, talk to stderr; 0 ok, 1 failed, 2 usage."""
    _open_closed_streams()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it would talk about what becomes an error of ours
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # ONNX Runtime, whoever loads it, would report to its maker
    signal.signal(signal.SIGTERM, _exit)
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:
        if end.code == EXIT_USAGE:
            _hint_at_dashes(sys.argv[1:] if argv is None else argv)
        raise
    if args.command is None:
        parser.print_help()
        return 0
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(args.verbose, 2)]
    line = "%(levelname)s %(name)s: %(message)s" if args.verbose else "reelkind: %(message)s"  # as other talk
    logging.basicConfig(level=level, stream=sys.stderr, format=line)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except ReelkindError as error:
        say(str(error))
        return EXIT_USAGE if _is_misused(error) else EXIT_FAILED
    except ModuleNotFoundError as error:
        if args.command not in _EXTRAS:
            raise
        say(f"this needs {error.name}: pip install 'reelkind[{_EXTRAS[args.command]}]'")
        return EXIT_FAILED
    except BrokenPipeError:  # the reader has seen enough, as in `| head`
        _give_up_output()
        return EXIT_BROKEN_PIPE
    except OSError as error:  # a full disk, a folder that may not be written
        logger.debug("the system refused", exc_info=True)
        reason = error.strerror or str(error)
        say(f"{error.filename}: {reason}" if error.filename else reason)
        _give_up_output()
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("interrupted")
        return EXIT_INTERRUPTED


def _hint_at_dashes(arguments: Sequence[str]) -> None:
    """A file whose name begins as options do may be what could not be understood."""
    for name in arguments:
        if name.startswith("-") and os.path.lexists(name):
            say(f"{name} is taken for an option: write ./{name} for the file of that name")


def _is_misused(error: ReelkindError) -> bool:
    """Whether an option is of no use, whatever the files."""
    from reelkind.client import InvalidOption

    return isinstance(error, UsageError | InvalidOption)


def _open_closed_streams() -> None:
    """Whoever starts us may have closed some; the next file opened would take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """End as any program does that is told to, but take server and workers along."""
    sys.exit(128 + number)


def _give_up_output() -> None:
    """Drop what stdout does not take; it would be tried once more, and complained about, at the very end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
