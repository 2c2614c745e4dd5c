"""``reelkind export``: a bundle to ONNX graphs, graphs to a model repository, and the proof that they agree."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ._arguments import positive
from ._embedded import default_bundle

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle

_FLAVOURS = ("tensorrt", "onnxruntime", "python")  # export.repository.FLAVOURS, not imported for --help's sake
_TALKATIVE = ("onnx_ir", "onnxscript", "torch.onnx")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``export`` and its three verbs."""
    parser = subparsers.add_parser("export", help="make ONNX graphs and model repositories, and compare them")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    onnx = verbs.add_parser("onnx", help="bundle to ONNX graphs, each checked against PyTorch")
    _add_bundles(onnx)
    onnx.add_argument(
        "--out", type=Path, help="folder for the graphs, one for each of several members (default: in the bundles)"
    )
    onnx.set_defaults(run=run_onnx)

    repository = verbs.add_parser("repository", help="graphs to what Triton reads")
    _add_bundles(repository)
    repository.add_argument(
        "--flavour", choices=_FLAVOURS, default="python", help="who executes the graphs (default: %(default)s)"
    )
    repository.add_argument("--out", type=Path, required=True, help="the repository; models of the same name go")
    repository.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads inside one operator (default: all cores)"
    )
    repository.add_argument("--configs-only", action="store_true", help="leave the graphs out, as in a checkout")
    repository.set_defaults(run=run_repository)

    parity = verbs.add_parser("parity", help="PyTorch, ONNX Runtime and Triton compared")
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
    server = parity.add_mutually_exclusive_group()
    server.add_argument("--url", metavar="HOST:PORT", help="add a running server as the last rung")
    server.add_argument("--embedded", action="store_true", help="start a server here as the last rung")
    parity.set_defaults(run=run_parity)


def run_onnx(args: argparse.Namespace) -> int:
    """Write and check the graphs; one line a file."""
    from reelkind.export.onnx_files import export_average, export_bundle

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    bundles = _load(args)
    folders = [args.out and (args.out / bundle.name if len(bundles) > 1 else args.out) for bundle in bundles]
    files = [file for bundle, folder in zip(bundles, folders, strict=True) for file in export_bundle(bundle, folder)]
    if len(bundles) > 1:
        files.append(export_average(bundles, folders[0]))
    for file in files:
        size, error = file.path.stat().st_size, file.max_error
        print(f"{file.path}  {size:,} bytes  differs from PyTorch by {error:.1e}")
    return 0


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
        graphs=not args.configs_only,
    )
    print("\n".join(str(args.out / name) for name in names))
    return 0


def run_parity(args: argparse.Namespace) -> int:
    """Print the ladder; 1 if a rung fails."""
    from reelkind.core.specs import DEFAULT_ENSEMBLE
    from reelkind.export.clips import default_clips, video_clips
    from reelkind.export.parity import Rung, as_json, climb, table
    from reelkind.export.reference import OnnxPipeline
    from reelkind.export.torch_pipeline import TorchPipeline
    from reelkind.export.triton_rung import TritonPipeline

    bundles = _load(args)
    size = bundles[0].backbone.frame_size_px
    clips = video_clips(args.clips, size, args.frames) if args.clips else default_clips(size, args.frames)
    rungs = [Rung("ONNX Runtime", OnnxPipeline(args.bundle, views=args.views))]
    ensemble = DEFAULT_ENSEMBLE + ("_ensemble" if len(bundles) > 1 else "")
    ensemble += "" if args.views == "single" else f"_{args.views}"
    with _server(args) as url:
        if url:
            rungs.append(Rung("Triton", TritonPipeline(url, ensemble, bundles)))
        reports = climb(TorchPipeline(bundles, views=args.views), rungs, clips)
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


@contextmanager
def _server(args: argparse.Namespace) -> Iterator[str | None]:
    """URL of the server to compare with, if one is wanted; an embedded one lives as long as the comparison."""
    if not args.embedded:
        yield args.url
        return
    from ._embedded import embedded_server

    with embedded_server(args.bundle) as server:
        yield server.url
