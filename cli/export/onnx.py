"""``reelkind export onnx`` and ``untrained``: bundles to ONNX graphs, each checked against PyTorch."""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reelkind.core.files.whole_files import write_json

from ..options.arguments import UsageError, positive
from ..options.bundles import PRECISIONS, add_bundles, load_bundles
from ..output.talk import EXIT_FAILED, say

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle
    from reelkind.export.onnx_files import GraphFile

_TALKATIVE = ("onnx_ir", "onnxscript", "torch.onnx")


def add_parsers(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe both verbs."""
    onnx = verbs.add_parser("onnx", help="bundle to ONNX graphs, each checked against PyTorch")
    add_bundles(onnx)
    onnx.add_argument(
        "--out", type=Path, help="folder for the graphs, one for each of several members (default: in the bundles)"
    )
    onnx.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="fp16: FP16 graphs of backbones and heads, made from the FP32 ones (default: %(default)s)",
    )
    onnx.add_argument(
        "--weights",
        type=_weights,
        metavar="A,B",
        help="of several members in their joint answer, one for each --bundle (default: equal)",
    )
    onnx.add_argument(
        "--report", type=Path, metavar="OUT", help="with fp16: write every cast and what was measured here, as JSON"
    )
    onnx.set_defaults(run=run_onnx)

    untrained = verbs.add_parser(
        "untrained",
        help="a member of random weights, to try structure and speed before anybody has trained one",
        description="Make a member of seeded random weights and export its graphs. Its answers mean nothing, and it is "
        "marked untrained wherever it is served.",
    )
    untrained.add_argument("name", metavar="NAME", help="of the member")
    untrained.add_argument("--backbone", required=True, help="e.g. resnet50, resnet101, efficientnet_v2_s")
    untrained.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's folder, to be created")
    untrained.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    untrained.add_argument(
        "--size", type=positive, default=224, metavar="PX", help="side of the square it sees (default: %(default)s)"
    )
    untrained.set_defaults(run=run_untrained)


def run_onnx(args: argparse.Namespace) -> int:
    """Write and check the graphs; one line a file."""
    from reelkind.export.graphs.shares import shares
    from reelkind.export.onnx_files import export_average, export_bundle

    _quieten()
    if args.report and args.precision != "fp16":
        raise UsageError("--report lists the casts of FP16 graphs: it goes with --precision fp16")
    if args.weights and args.precision == "fp16":
        raise UsageError("--weights are of the graph that joins members, which has no FP16 form")
    bundles = load_bundles(args)
    if args.weights:
        shares(args.weights, len(bundles))  # refused before anything is written
    folders = [args.out and (args.out / bundle.name if len(bundles) > 1 else args.out) for bundle in bundles]
    if args.precision == "fp16":
        return _run_onnx_half(bundles, folders, args.report)
    files = [file for bundle, folder in zip(bundles, folders, strict=True) for file in export_bundle(bundle, folder)]
    if len(bundles) > 1:
        joint = min(zip(bundles, folders, strict=True), key=lambda pair: pair[0].name)[1]  # where it is looked for
        files.append(export_average(bundles, joint, args.weights))
    _print_files(files)
    return 0


def _print_files(files: Sequence[GraphFile]) -> None:
    for file in files:
        size, error = file.path.stat().st_size, file.max_error
        print(f"{file.path}  {size:,} bytes  differs from PyTorch by {error:.1e}")


def run_untrained(args: argparse.Namespace) -> int:
    """Write the bundle and its graphs; one line a graph."""
    from reelkind.export.onnx_files import export_bundle
    from reelkind.export.untrained import write_untrained_bundle

    _quieten()
    if args.out.exists():
        say(f"{args.out} is there already: choose another folder for --out")
        return EXIT_FAILED
    try:
        bundle = write_untrained_bundle(args.name, args.backbone, args.out, args.seed, frame_size_px=args.size)
        files = export_bundle(bundle)
    except BaseException:
        shutil.rmtree(args.out, ignore_errors=True)
        raise
    _print_files(files)
    return 0


def _quieten() -> None:
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


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
        write_json(report, entries)
    return 0


def _weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, one for each --bundle: 0.4,0.6") from None
