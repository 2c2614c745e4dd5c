"""``reelkind export parity``: what is compared with what."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..options.arguments import UsageError
from ..options.bundles import PRECISIONS, add_bundles, load_bundles
from ..options.connecting import TTA


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the verb."""
    parser = verbs.add_parser("parity", help="PyTorch, ONNX Runtime, engines, Triton and the client compared")
    add_bundles(parser)
    parser.add_argument(
        "--clips", nargs="+", type=Path, help="videos or folders; samples and made-up pictures if left out"
    )
    parser.add_argument(
        "--frames",
        type=_numbers,
        default="1,7,16,32",
        help="numbers of frames to take of each clip (default: %(default)s)",
    )
    parser.add_argument("--tta", choices=TTA, default="off", help="test-time augmentation (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the report to this file")
    parser.add_argument("--fp16", action="store_true", help="add the FP16 graphs as rungs")
    parser.add_argument("--engines", type=Path, metavar="DIR", help="add the engines of this folder as a rung")
    parser.add_argument(
        "--server-precision",
        choices=("auto", *PRECISIONS, "int8"),
        default="auto",
        help="what the server runs; auto: int8 for members stored so, else fp32 (default: %(default)s)",
    )
    parser.add_argument(
        "--every-ensemble",
        action="store_true",
        help="instead of the ladder: all ensembles of the server against ONNX Runtime and NumPy in this process",
    )
    parser.add_argument(
        "--batch", type=_numbers, default="1", help="with --every-ensemble: videos in a request, e.g. 1,3 (default: 1)"
    )
    server = parser.add_mutually_exclusive_group()
    server.add_argument("--url", metavar="HOST:PORT", help="add a running server, and the client, as rungs")
    server.add_argument("--embedded", action="store_true", help="start a server here for these rungs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the ladder, or the table of all ensembles; 1 if anything fails."""
    if args.every_ensemble and not (args.url or args.embedded):
        raise UsageError("--every-ensemble needs a server: add --embedded or --url HOST:PORT")
    bundles = load_bundles(args)
    from .parity_ladder import run_deployment, run_ladder  # NumPy

    return run_deployment(args, bundles) if args.every_ensemble else run_ladder(args, bundles)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) if number.isdecimal() else 0 for number in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers of at least 1: 1,16")
    return numbers
