"""``reelkind export``: bundles to ONNX graphs, engines and model repositories, and the proof that they agree."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ._arguments import positive
from ._embedded import default_bundle

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle

_FLAVOURS = ("tensorrt", "onnxruntime", "python")  # export.execution.FLAVOURS, not imported for --help's sake
_RUNTIMES = ("onnxruntime", "onnxruntime_cuda", "tensorrt")  # export.execution.RUNTIMES
_PRECISIONS = ("fp32", "fp16")  # core.specs.PRECISIONS
_EXIT_USAGE = 2
_TALKATIVE = ("onnx_ir", "onnxscript", "torch.onnx")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` and its verbs."""
    parser = subparsers.add_parser("export", help="make ONNX graphs and model repositories, and compare them")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    onnx = verbs.add_parser("onnx", help="bundle to ONNX graphs, each checked against PyTorch")
    _add_bundles(onnx)
    onnx.add_argument(
        "--out", type=Path, help="folder for the graphs, one for each of several members (default: in the bundles)"
    )
    onnx.add_argument(
        "--precision",
        choices=_PRECISIONS,
        default="fp32",
        help="fp16: FP16 graphs of backbones and heads, made from the FP32 ones (default: %(default)s)",
    )
    onnx.add_argument(
        "--report", type=Path, metavar="OUT", help="with fp16: write every cast and what was measured here, as JSON"
    )
    onnx.set_defaults(run=run_onnx)

    engine = verbs.add_parser("engine", help="graphs to TensorRT engines for the GPU of this machine")
    _add_bundles(engine)
    engine.add_argument("--precision", choices=_PRECISIONS, default="fp16", help="of the graphs (default: %(default)s)")
    engine.add_argument(
        "--out", type=Path, default=Path("build/engines"), help="folder of this card's engines (default: %(default)s)"
    )
    engine.add_argument("--dry-run", action="store_true", help="say what would be built; needs no GPU")
    engine.set_defaults(run=run_engine)

    repository = verbs.add_parser("repository", help="graphs to what Triton reads")
    _add_bundles(repository)
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
    repository.add_argument("--configs-only", action="store_true", help="leave the graphs out, as in a checkout")
    repository.set_defaults(run=run_repository)

    gate = verbs.add_parser("gate", help="TensorRT-RTX's parser and builder asked about every graph, without a GPU")
    _add_bundles(gate)
    gate.set_defaults(run=run_gate)

    parity = verbs.add_parser("parity", help="PyTorch, ONNX Runtime, engines, Triton and the client compared")
    _add_bundles(parity)
    parity.add_argument(
        "--clips", nargs="+", type=Path, help="videos or folders; samples and made-up pictures if left out"
    )
    parity.add_argument(
        "--frames",
        type=_numbers,
        default="1,7,16,32",
        help="numbers of frames to take of each clip (default: %(default)s)",
    )
    parity.add_argument(
        "--views", choices=("single", "tta"), default="single", help="which views of each frame (default: %(default)s)"
    )
    parity.add_argument("--json", type=Path, metavar="OUT", help="also write the report to this file")
    parity.add_argument("--fp16", action="store_true", help="add the FP16 graphs as rungs")
    parity.add_argument("--engines", type=Path, metavar="DIR", help="add the engines of this folder as a rung")
    parity.add_argument(
        "--server-precision", choices=_PRECISIONS, default="fp32", help="what the server runs (default: %(default)s)"
    )
    server = parity.add_mutually_exclusive_group()
    server.add_argument("--url", metavar="HOST:PORT", help="add a running server, and the client, as rungs")
    server.add_argument("--embedded", action="store_true", help="start a server here for these rungs")
    parity.set_defaults(run=run_parity)


def run_onnx(args: argparse.Namespace) -> int:
    """Write and check the graphs; one line a file."""
    from reelkind.export.onnx_files import export_average, export_bundle

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    if args.report and args.precision != "fp16":
        print("reelkind: --report lists the casts of FP16 graphs: it goes with --precision fp16", file=sys.stderr)
        return _EXIT_USAGE
    bundles = _load(args)
    folders = [args.out and (args.out / bundle.name if len(bundles) > 1 else args.out) for bundle in bundles]
    if args.precision == "fp16":
        return _run_onnx_half(bundles, folders, args.report)
    files = [file for bundle, folder in zip(bundles, folders, strict=True) for file in export_bundle(bundle, folder)]
    if len(bundles) > 1:
        files.append(export_average(bundles, folders[0]))
    for file in files:
        size, error = file.path.stat().st_size, file.max_error
        print(f"{file.path}  {size:,} bytes  differs from PyTorch by {error:.1e}")
    return 0


def _run_onnx_half(bundles: list[Bundle], folders: list[Path | None], report: Path | None) -> int:
    from reelkind.export.onnx_files import export_half

    files = [file for bundle, folder in zip(bundles, folders, strict=True) for file in export_half(bundle, folder)]
    for file in files:
        found = file.report
        print(
            f"{file.path}  {file.path.stat().st_size:,} bytes  {len(file.casts)} casts  largest value "
            f"{found.largest:.3g}, 1/{found.headroom:.0f} of FP16's range  differs from FP32 by {found.worst_error:.1e}"
        )
    if report:
        entries = {
            file.graph.name: {"casts": list(map(asdict, file.casts)), "computed": file.computed, **asdict(file.report)}
            for file in files
        }
        report.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    return 0


def run_engine(args: argparse.Namespace) -> int:
    """Build what is not there; one line an engine."""
    from reelkind.export.engine_files import engine_path
    from reelkind.export.engines import build_engines, find_device, plan_engines

    plans = plan_engines(_load(args), args.precision)
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
    from reelkind.export.gate import COMPUTE_CAPABILITY, judge_bundles

    refused = 0
    for verdict in judge_bundles(_load(args)):
        refused += bool(verdict.refusal)
        built = f"{verdict.num_layers} layers, engine of {verdict.engine_bytes / 1e6:.1f} MB in {verdict.build_s:.1f} s"
        print(f"{verdict.graph} {verdict.precision} for {COMPUTE_CAPABILITY}: {verdict.refusal or built}", flush=True)
    return 1 if refused else 0


def run_repository(args: argparse.Namespace) -> int:
    """Write a model repository; one line a model."""
    from reelkind.export.repository import standard_ensembles, write_repository

    bundles = _load(args)
    names = write_repository(
        args.out,
        standard_ensembles(bundles),
        bundles,
        args.flavour,
        num_threads=args.threads,
        runtime=args.runtime,
        without_engine=args.without_engine,
        engines=args.engines,
        graphs=not args.configs_only,
    )
    print("\n".join(str(args.out / name) for name in names))
    return 0


def run_parity(args: argparse.Namespace) -> int:
    """Print the ladder; 1 if a rung fails."""
    from reelkind.export.parity import as_json, table

    from ._parity import climb_ladder

    bundles = _load(args)
    reports = climb_ladder(args, bundles)
    print(table(reports, "PyTorch"))
    if args.json:
        source = [path.name for path in args.clips] if args.clips else "samples and synthetic"
        report = as_json(reports, bundles, views=args.views, num_frames=list(args.frames), clips=source)
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if all(report.passed for report in reports) else 1


def _add_bundles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bundle",
        action="append",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help="a trained bundle; again for each further member of an ensemble (default: the packaged one)",
    )


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text}: a clip has at least 1 frame")
    return numbers


def _load(args: argparse.Namespace) -> list[Bundle]:
    from reelkind.core.bundle import load

    if "bundle" not in args:
        args.bundle = [default_bundle()]
    bundles = [load(folder) for folder in args.bundle]
    for bundle in bundles:
        if not bundle.trained:
            print(f"reelkind: bundle {bundle.name!r} has random weights: its answers mean nothing", file=sys.stderr)
    return bundles
