"""``reelkind plan``: what fits a card or slice, in memory and in videos a day, before anything is deployed on it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelkind.core.files.whole_files import write_json
from reelkind.deployment.embedded import default_bundle

from .options.arguments import UsageError, positive, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reelkind.core.bundle import Bundle
    from reelkind.export.tensorrt.capacity_plan import CapacityPlan, StageCost
    from reelkind.export.tensorrt.memory_plan import MemoryPlan

_SLICES = ("a100-1g.10gb",)  # export.tensorrt.memory_plan.SLICES
_GB = 1e9
_STATISTICS_TIMEOUT_S = 10.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the subcommand."""
    parser = subparsers.add_parser(
        "plan",
        help="add up the GPU memory of what is to be served, refuse what does not fit, and count videos a day",
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
    capacity = parser.add_argument_group("capacity")
    capacity.add_argument("--videos-per-day", type=positive, metavar="N", help="also say how many slices carry so many")
    capacity.add_argument(
        "--cost-ms",
        type=_cost,
        action="append",
        default=[],
        metavar="STAGE=MS",
        help="what one video costs at a stage, e.g. backbone_clip=12.5; again for others",
    )
    capacity.add_argument(
        "--costs-from",
        metavar="URL",
        help="measured costs: HTTP address of a server on such a slice that has worked, e.g. http://gpu-1:8000, or a "
        "file of its /v2/models/stats",
    )
    capacity.add_argument(
        "--utilisation",
        type=share,
        default=0.7,
        metavar="U",
        help="share of the day that a slice may be busy (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the plan to this file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan; 1 if it does not fit. That a promotion would not is said, no more: not everybody promotes."""
    from reelkind.core.bundle import load
    from reelkind.export.tensorrt.memory_plan import SLICES, plan_memory

    if (args.cost_ms or args.costs_from) and not args.videos_per_day:
        raise UsageError("--cost-ms and --costs-from are for --videos-per-day")
    bundles = [load(folder) for folder in args.bundle or [default_bundle()]]
    capacity = _capacity(args, bundles) if args.videos_per_day else None
    available = int(args.memory_gb * _GB) if args.memory_gb else SLICES[args.slice]
    plan = plan_memory(bundles, available, num_instances=args.instances, engines=args.engines)
    print(_table(plan, args.slice if not args.memory_gb else f"{args.memory_gb:g} GB"))
    if capacity:
        print(_capacity_table(capacity))
    if args.json:
        report = asdict(plan) | {
            key: getattr(plan, key) for key in ("needed_bytes", "fits", "promotion_bytes", "promotes")
        }
        if capacity:
            numbers = ("slice_ms", "host_ms", "videos_per_day", "slices", "processors")
            report["capacity"] = asdict(capacity) | {key: getattr(capacity, key) for key in numbers}
        write_json(args.json, report)
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


def _capacity(args: argparse.Namespace, bundles: Sequence[Bundle]) -> CapacityPlan:
    from reelkind.core import specs
    from reelkind.export.tensorrt.capacity_plan import ON_HOST, StageCost, measured_costs, plan_capacity

    if not args.utilisation:
        raise UsageError("--utilisation 0 carries nothing: give a share above 0")
    costs: dict[str, StageCost] = {}
    if args.costs_from:
        wanted = [graph(bundle).name for bundle in bundles for graph in (specs.backbone_graph, specs.head_graph)]
        found = measured_costs(_statistics(args.costs_from), args.costs_from, [*wanted, *ON_HOST])
        costs = {cost.stage: cost for cost in found}
    costs |= {stage: StageCost(stage, ms, "stated") for stage, ms in args.cost_ms}
    return plan_capacity(bundles, list(costs.values()), args.videos_per_day, args.utilisation)


def _statistics(source: str) -> dict[str, Any]:
    from urllib.request import urlopen

    try:
        if source.startswith(("http://", "https://")):
            with urlopen(f"{source.rstrip('/')}/v2/models/stats", timeout=_STATISTICS_TIMEOUT_S) as answer:  # nosec B310 # http, see above
                return dict(json.load(answer))
        return dict(json.loads(Path(source).read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"--costs-from {source}: {getattr(error, 'reason', None) or error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--costs-from {source}: no JSON: {error}") from error


def _capacity_table(plan: CapacityPlan) -> str:
    from reelkind.export.tensorrt.capacity_plan import DAY_MS

    rows = ["", f"{'ms a video':<28} {'slice':>9} {'processor':>9}  source"]
    for cost in plan.costs:
        columns = (f"{cost.ms:.2f}", "") if cost.on_slice else ("", f"{cost.ms:.2f}")
        rows.append(f"{cost.stage:<28} {columns[0]:>9} {columns[1]:>9}  {cost.source}")
    busy, unknown = f"{plan.utilisation:g}", "" if plan.host_ms else " (no cost of preprocessing is known)"
    rows += [
        f"videos a day = {DAY_MS:,} ms x {busy} / {plan.slice_ms:.2f} ms = {plan.videos_per_day:,} on one slice "
        "(utilisation law; a slice computes one execution at a time)",
        f"{plan.wanted_per_day:,} videos a day: {plan.slices} slice{'s' * (plan.slices > 1)}, and "
        f"{plan.processors:.1f} processors of the host{unknown}; decoding is the clients'",
    ]
    return "\n".join(rows)


def _cost(text: str) -> tuple[str, float]:
    stage, _, number = text.partition("=")
    try:
        ms = float(number)
    except ValueError:
        ms = 0.0
    if not stage or not 0 < ms < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no cost: write STAGE=MS, e.g. backbone_clip=12.5")
    return stage, ms


def _gigabytes(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: memory of a card is more than 0 GB")
    return number
