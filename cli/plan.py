"""``reelkind plan``: what fits the memory of a card or slice, before anything is deployed on it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.deployment.embedded import default_bundle

from .options.arguments import positive

if TYPE_CHECKING:
    from reelkind.export.tensorrt.memory_plan import MemoryPlan

_SLICES = ("a100-1g.10gb",)  # export.tensorrt.memory_plan.SLICES
_GB = 1e9


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "plan",
        help="add up the GPU memory of what is to be served, and refuse what does not fit",
        description="Add up the GPU memory of engines, activations and buffers, in service and during a promotion. "
        "Without --engines the sizes are estimated from the graphs, and marked so.",
    )
    parser.add_argument(
        "--bundle",
        action="append",
        type=Path,
        metavar="DIR",
        help="a member; again for others (default: the packaged one)",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--slice", choices=_SLICES, default=_SLICES[0], help="a known slice (default: %(default)s)")
    size.add_argument("--memory-gb", type=_gigabytes, metavar="GB", help="memory of another card, in 10^9 bytes")
    parser.add_argument("--instances", type=positive, default=1, metavar="N", help="of every model (default: 1)")
    parser.add_argument("--engines", type=Path, metavar="DIR", help="engines built on such a card: measured sizes")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the plan to this file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan; 1 if it does not fit. That a promotion would not is said, no more: not everybody promotes."""
    from reelkind.core.bundle import load
    from reelkind.export.tensorrt.memory_plan import SLICES, plan_memory

    bundles = [load(folder) for folder in args.bundle or [default_bundle()]]
    available = int(args.memory_gb * _GB) if args.memory_gb else SLICES[args.slice]
    plan = plan_memory(bundles, available, num_instances=args.instances, engines=args.engines)
    print(_table(plan, args.slice if not args.memory_gb else f"{args.memory_gb:g} GB"))
    if args.json:
        report = asdict(plan) | {
            key: getattr(plan, key) for key in ("needed_bytes", "fits", "promotion_bytes", "promotes")
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if plan.fits else 1


def _table(plan: MemoryPlan, where: str) -> str:
    from reelkind.export.tensorrt.memory_plan import PROCESS_BYTES

    rows = [f"{'GB':<28} {'instances':>9} {'engine':>7} {'activations':>11} {'buffers':>7} {'total':>7}  sizes"]
    for model in plan.models:
        source = "measured" if model.measured else "estimated"
        sizes = (model.engine_bytes, model.context_bytes, model.buffer_bytes, model.total_bytes)
        columns = " ".join(f"{size / _GB:>{width}.2f}" for size, width in zip(sizes, (7, 11, 7, 7), strict=True))
        rows.append(f"{model.model:<28} {model.num_instances:>9} {columns}  {source}")
    rows.append(f"{'server process (assumed)':<28} {'':>36} {PROCESS_BYTES / _GB:>8.2f}")
    needed, available = plan.needed_bytes / _GB, plan.available_bytes / _GB
    verdict = "fits" if plan.fits else f"DOES NOT FIT, {needed - available:.2f} GB too much"
    rows.append(
        f"{needed:.2f} of {available:.2f} GB on {where}: {verdict}; room for {plan.max_instances} instances of all"
    )
    promotion = plan.promotion_bytes / _GB
    remedy = "works" if plan.promotes else "DOES NOT FIT: start the server with the new bundle instead"
    rows.append(f"{promotion:.2f} GB while a member is promoted (three versions of it at once): {remedy}")
    return "\n".join(rows)


def _gigabytes(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: memory of a card is more than 0 GB")
    return number
