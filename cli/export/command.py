"""``reelkind export``: bundles to ONNX graphs, engines and model repositories, and the proof that they agree."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..options.arguments import MAX_QUEUE_HELP, add_precision, positive
from ..options.bundles import PRECISIONS, add_bundles, load_bundles
from . import onnx as export_onnx
from . import parity as export_parity

_FLAVOURS = ("tensorrt", "onnxruntime", "python")  # export.repository.execution.FLAVOURS, for --help's sake
_RUNTIMES = ("onnxruntime", "onnxruntime_cuda", "tensorrt")  # export.repository.execution.RUNTIMES


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` and its verbs."""
    parser = subparsers.add_parser("export", help="make ONNX graphs and model repositories, and compare them")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    export_onnx.add_parsers(verbs)
    export_parity.add_parser(verbs)

    engine = verbs.add_parser("engine", help="graphs to TensorRT engines for the GPU of this machine")
    add_bundles(engine)
    engine.add_argument("--precision", choices=PRECISIONS, default="fp16", help="of the graphs (default: %(default)s)")
    engine.add_argument(
        "--out", type=Path, default=Path("build/engines"), help="folder of this card's engines (default: %(default)s)"
    )
    engine.add_argument("--dry-run", action="store_true", help="say what would be built; needs no GPU")
    engine.set_defaults(run=run_engine)

    repository = verbs.add_parser("repository", help="graphs to what Triton reads")
    add_bundles(repository)
    repository.add_argument(
        "--flavour", choices=_FLAVOURS, default="python", help="who executes the graphs (default: %(default)s)"
    )
    repository.add_argument("--out", type=Path, required=True, help="the repository; models of the same name go")
    repository.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads inside one operator (default: all cores)"
    )
    repository.add_argument(
        "--runtime",
        choices=_RUNTIMES,
        default="onnxruntime",
        help="what the python flavour executes backbones and heads with (default: %(default)s)",
    )
    repository.add_argument("--engines", type=Path, metavar="DIR", help="engines built on this card, to be copied in")
    repository.add_argument(
        "--without-engine",
        action="append",
        default=[],
        metavar="MODEL",
        help="leave this backbone or head, e.g. head_lite, to ONNX Runtime; again for others",
    )
    repository.add_argument("--max-queue", type=positive, metavar="N", help=MAX_QUEUE_HELP)
    add_precision(repository)
    repository.add_argument("--configs-only", action="store_true", help="leave the graphs out, as in a checkout")
    repository.set_defaults(run=run_repository)

    gate = verbs.add_parser("gate", help="TensorRT-RTX's parser and builder asked about every graph, without a GPU")
    add_bundles(gate)
    gate.set_defaults(run=run_gate)


def run_engine(args: argparse.Namespace) -> int:
    """Build what is not there; one line an engine."""
    from reelkind.export.repository.engine_files import engine_path
    from reelkind.export.tensorrt.engines import build_engines, find_device, plan_engines

    plans = plan_engines(load_bundles(args), args.precision)
    if args.dry_run:
        for plan in plans:
            shapes = "; ".join(f"{name} {' .. '.join(map(str, shapes))}" for name, shapes in plan.profile.items())
            print(f"{engine_path(args.out, plan.graph)}  {plan.precision} from {plan.source}  {shapes}")
        return 0
    for file in build_engines(plans, args.out, find_device()):
        print(f"{file.path}  {file.path.stat().st_size:,} bytes  {file.reason or 'is there'}", flush=True)
    return 0


def run_gate(args: argparse.Namespace) -> int:
    """One line a graph and precision; 1 if one is refused."""
    from reelkind.export.tensorrt.gate import COMPUTE_CAPABILITY, judge_bundles

    refused = 0
    for verdict in judge_bundles(load_bundles(args)):
        refused += bool(verdict.refusal)
        built = f"{verdict.num_layers} layers, engine of {verdict.engine_bytes / 1e6:.1f} MB in {verdict.build_s:.1f} s"
        print(f"{verdict.graph} {verdict.precision} for {COMPUTE_CAPABILITY}: {verdict.refusal or built}", flush=True)
    return 1 if refused else 0


def run_repository(args: argparse.Namespace) -> int:
    """Write a model repository; one line a model."""
    from reelkind.export.repository.repository import standard_ensembles, write_repository

    bundles = load_bundles(args)
    names = write_repository(
        args.out,
        standard_ensembles(bundles),
        bundles,
        args.flavour,
        num_threads=args.threads,
        runtime=args.runtime,
        without_engine=args.without_engine,
        engines=args.engines,
        max_queue=args.max_queue,
        graphs=not args.configs_only,
        precision=args.precision,
    )
    print("\n".join(str(args.out / name) for name in names))
    return 0
