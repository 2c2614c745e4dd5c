"""Everything that only a GPU can tell, in one command and one JSON file.

    python -m reelkind.benchmarks.gpu.check [--bundle DIR] [--random resnet50] [--clips FOLDER] [--dry-run]

It runs on a bare NVIDIA machine with this repository, a bundle and Python packages: FP16 engines for every member, the
parity ladder, latency and throughput of every way to run a graph beside the card's own measured peak, and the device
memory of all members with test-time augmentation under the cap of a slice. What cannot run there is listed as not run,
with the reason; no number is filled in for it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from reelkind.benchmarks.environment import describe
from reelkind.benchmarks.gpu.report import Report
from reelkind.core import bundle as bundles_on_disk
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.cuda import Device
from reelkind.core.errors import ReelkindError
from reelkind.export.pipelines.clips import ParityClip, extreme_clips, synthetic_clips, video_clips
from reelkind.export.tensorrt.engines import find_device
from reelkind.export.tensorrt.networks import TENSORRT, TENSORRT_RTX, load_library

CAP_GB = 9.8  # what a program can use of an A100's 1g.10gb slice
LIBRARIES = (TENSORRT, TENSORRT_RTX)
PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "safetensors", "av", *LIBRARIES)
ROOT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON; 1 if a ladder fails, nothing could be measured, or there is no GPU."""
    args = _arguments(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    if args.dry_run:
        print("\n".join(_intentions(args)))
        return 0
    try:
        device = find_device()
        report = Report(args.json or ROOT / "benchmarks" / "results" / f"gpu_{_slug(device.name)}.json")
        _measure(args, device, report)
    except ReelkindError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 1
    print(report.table())
    print(report.path)
    return 0 if report.passed else 1


def _measure(args: argparse.Namespace, device: Device, report: Report) -> None:
    from reelkind.benchmarks.gpu import limits as gpu_limits
    from reelkind.benchmarks.gpu.ladder import climb_on_gpu
    from reelkind.benchmarks.gpu.memory import peak_memory
    from reelkind.benchmarks.gpu.speed import measure_speed

    report.content |= {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "device": {name: value for name, value in vars(device).items() if not name.startswith("_")},
        "used_before_bytes": device.memory_bytes - device.free_bytes(),
        "clocks_before": gpu_limits.clocks(),
    }
    bundles = _members(args, report)
    libraries = [name for name in LIBRARIES if report.attempt(f"load {name}", load_library, name)]
    for library in libraries:  # before PyTorch takes memory for itself
        step = f"memory of all members with {library}"
        memory = report.attempt(step, peak_memory, bundles, device, args.work / library, library, args.cap_gb)
        if memory:
            report.content.setdefault("memory", {})[library] = memory
    for bundle in bundles:
        clips = _clips(args, bundle.backbone.frame_size_px)
        ladder = report.attempt(f"parity of {bundle.name}", climb_on_gpu, bundle, clips, device, args.work, libraries)
        if ladder:
            report.content.setdefault("parity", {})[bundle.name] = ladder
    report.content["peaks"] = report.attempt("peaks of the card", gpu_limits.measured_peaks) or {}
    measure_speed(bundles, device, libraries, args.work, args.runs, report)
    report.content["clocks_after"] = gpu_limits.clocks()
    report.save()


def _members(args: argparse.Namespace, report: Report) -> list[Bundle]:
    """The bundles, in copies whose graphs are complete; those of random weights say so."""
    from reelkind.benchmarks.gpu.members import complete, random_member

    given = [bundles_on_disk.load(folder) for folder in args.bundle]
    found = [report.attempt(f"graphs of {bundle.name}", complete, bundle, args.work) for bundle in given]
    found += [report.attempt(f"random {name}", random_member, name, args.work) for name in args.random]
    bundles = [bundle for bundle in found if bundle]
    if not bundles:
        reasons = "; ".join(entry["reason"] for entry in report.content["not_run"])
        raise ReelkindError(f"no member is left to measure: {reasons}")
    report.content["members"] = {
        bundle.name: {"trained": bundle.trained, "backbone": bundle.backbone.name} for bundle in bundles
    }
    return bundles


def _clips(args: argparse.Namespace, size_px: int) -> Iterator[ParityClip]:
    if args.clips:
        yield from video_clips(args.clips, size_px, (16,))
        return
    yield from synthetic_clips(size_px, (1, 7, 16))
    yield from extreme_clips(size_px, 16)


def _intentions(args: argparse.Namespace) -> list[str]:
    """What would be measured, and which packages for it are here."""
    members = [*map(str, args.bundle), *(f"{name} with random weights" for name in args.random)]
    here = {name: importlib.util.find_spec(name) is not None for name in PACKAGES}
    return [
        f"members: {', '.join(members)}",
        f"engines: {', '.join(LIBRARIES)}, as far as they can be loaded; {args.runs} timed runs of everything",
        f"memory of all members with {specs.MAX_VIEWS} views under {args.cap_gb:g} GB",
        f"clips for parity: {', '.join(map(str, args.clips)) if args.clips else 'made-up and extreme pictures'}",
        *(f"package {name}: {'here' if found else 'not here'}" for name, found in here.items()),
    ]


def _version(module: str) -> str:
    """Empty if it is not installed."""
    try:
        return metadata.version(module.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return ""


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu_check", description="Measure on this machine's GPU; see docs/gpu.md.", allow_abbrev=False
    )
    parser.add_argument(
        "--bundle", action="append", type=Path, metavar="DIR", help="a member; again for others (default: lite)"
    )
    parser.add_argument(
        "--random", action="append", default=[], metavar="BACKBONE", help="a member of random weights; again for others"
    )
    parser.add_argument("--clips", nargs="+", type=Path, default=[], help="videos for the ladder (needs PyAV)")
    parser.add_argument("--runs", type=int, default=50, help="timed runs of everything (default: %(default)s)")
    parser.add_argument("--cap-gb", type=float, default=CAP_GB, help="device memory to use, GB (default: %(default)s)")
    parser.add_argument(
        "--work", type=Path, default=Path("build/gpu-check"), help="graphs and engines (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="the report (default: benchmarks/results/gpu_<card>.json)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be measured; needs no GPU")
    args = parser.parse_args(argv)
    if args.runs < 1 or not args.cap_gb > 0:
        parser.error("--runs and --cap-gb must be more than 0")
    args.bundle = args.bundle or [ROOT / "bundles" / "lite"]
    return args


if __name__ == "__main__":
    sys.exit(main())
