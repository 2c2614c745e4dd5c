"""The bundles that ``reelkind export`` works on: the option and what it names."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.deployment.embedded import default_bundle

from ..output.talk import say

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle

PRECISIONS = ("fp32", "fp16")  # core.specs.PRECISIONS, not imported for --help's sake


def add_bundles(parser: argparse.ArgumentParser) -> None:
    """``--bundle``, any number of times."""
    parser.add_argument(
        "--bundle",
        action="append",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="a trained bundle; again for each further member of an ensemble (default: the packaged one)",
    )


def load_bundles(args: argparse.Namespace) -> list[Bundle]:
    """The named bundles, or the packaged one; a word on stderr about those with random weights.

    Raises:
        BundleError: if a folder holds no bundle.
    """
    if "bundle" not in args:
        args.bundle = [default_bundle()]
    return load_all(args.bundle)


def load_all(folders: Iterable[Path]) -> list[Bundle]:
    """Bundles; a word on stderr about those with random weights.

    Raises:
        BundleError: if a folder holds no bundle.
    """
    from reelkind.core.bundle import load

    bundles = [load(folder) for folder in folders]
    for bundle in bundles:
        if not bundle.trained:
            say(f"bundle {bundle.name!r} has random weights: its answers mean nothing")
    return bundles
