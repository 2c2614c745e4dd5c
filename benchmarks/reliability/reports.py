"""What all parts have in common: their options, progress, and reports as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
SAMPLES, BUNDLES = ROOT / "samples", ROOT / "bundles"


def parse(parser: argparse.ArgumentParser, part: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Options of a part, with those that all have.

    Args:
        parser: with the part's own.
        part: its name; the default of ``--json`` is ``benchmarks/results/reliability_PART.json``, and for
            ``--quick`` a place under ``build``.
        argv: see ``parse_args``.
    """
    parser.add_argument("--quick", action="store_true", help="a short form: to see whether it works")
    parser.add_argument("--json", type=Path, help=f"default: benchmarks/results/reliability_{part}.json")
    args = parser.parse_args(argv)
    if args.json is None:
        folder = ROOT / "build" / "reliability" if args.quick else RESULTS
        args.json = folder / f"reliability_{part}.json"
    return args


def say(line: str) -> None:
    """Progress, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def write(
    path: Path, what: str, found: Mapping[str, Any], machine: Mapping[str, Any], *, quick: bool
) -> dict[str, Any]:
    """Write a part's report, with the machine and its load at the end.

    Args:
        path: of the JSON file; folders are made.
        what: one line.
        found: the part's own.
        machine: as ``environment.describe`` told it before.
        quick: whether it is a short form.
    """
    state = {**machine, "load_after": round(os.getloadavg()[0], 2), "nice": os.nice(0)}
    report = {"what": what, "quick": quick, **found, "machine": state}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    say(f"wrote {path}")
    return report
