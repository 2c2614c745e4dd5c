"""What Triton costs: clips per second through the server, and through the same ONNX graphs in this process.

    python -m reelkind.benchmarks.serving_overhead [--bundle bundles/lite] [--concurrency 2] [--rounds 15]

Both sides get the same decoded clips, the same graphs and the same number of ONNX Runtime threads, and
the same number of callers at once. Rounds alternate, so that a slow minute of the machine hits both;
the verdict is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from reelkind.benchmarks import environment
from reelkind.cli._embedded import embedded_server
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core import video
from reelkind.export.reference import OnnxPipeline

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

Classify = Callable[[np.ndarray], object]
Rates = dict[str, list[float]]
"""Side (``triton``, ``in_process``) -> clips per second of each round, round i of one beside round i of the other."""


def clips_per_second(classify: Classify, clips: Sequence[np.ndarray], concurrency: int, num_clips: int) -> float:
    """Drive ``classify`` with ``concurrency`` callers over ``num_clips`` clips, closed loop."""
    with ThreadPoolExecutor(concurrency) as pool:
        began = time.perf_counter()
        list(pool.map(classify, (clips[i % len(clips)] for i in range(num_clips))))
        return num_clips / (time.perf_counter() - began)


def compare(
    served: Classify, local: Classify, clips: Sequence[np.ndarray], concurrency: int, rounds: int, num_clips: int
) -> Rates:
    """Alternate the two sides for ``rounds`` rounds after one warm-up each; who begins alternates too."""
    sides: dict[str, Classify] = {"triton": served, "in_process": local}
    rates: Rates = {"triton": [], "in_process": []}
    for classify in sides.values():
        clips_per_second(classify, clips, concurrency, num_clips)
    for i in range(rounds):
        order = list(sides)[:: 1 if i % 2 else -1]
        for side in order:
            rates[side].append(clips_per_second(sides[side], clips, concurrency, num_clips))
        print(
            f"round {i + 1:2}: Triton {rates['triton'][-1]:.2f}, in-process {rates['in_process'][-1]:.2f} clips/s",
            file=sys.stderr,
        )
    return rates


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite")
    parser.add_argument("--concurrency", type=int, default=2, help="callers at once (default: 2)")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of rounds (default: 15)")
    parser.add_argument("--clips", type=int, default=12, help="clips a round (default: 12)")
    parser.add_argument("--json", type=Path, default=RESULTS / "serving_overhead_cpu.json")
    args = parser.parse_args(argv)

    bundle = bundles.load(args.bundle)
    samples = sorted((ROOT / "samples").glob("*.mp4"))
    size, frames = bundle.backbone.frame_size_px, bundle.num_frames
    clips = [video.read_clip(path, num_frames=frames, size_px=size).frames for path in samples]
    threads = os.cpu_count() or 1
    local = OnnxPipeline(args.bundle, num_threads=threads)
    machine = environment.describe()
    with embedded_server([args.bundle], num_threads=threads) as server, Client(server.url) as client:
        rates = compare(
            client.classify_frames, lambda clip: local(clip[None]), clips, args.concurrency, args.rounds, args.clips
        )
    medians = {side: statistics.median(values) for side, values in rates.items()}
    ratios = [a / b for a, b in zip(rates["triton"], rates["in_process"], strict=True)]
    report = {
        "what": "clips/s through Triton (Python backend, ONNX Runtime, gRPC) and through the same sessions in-process",
        "bundle": bundle.name,
        "weights_sha256": bundles.weights_hash(bundle),
        "concurrency": args.concurrency,
        "threads_per_session": threads,
        "clip": [frames, size, size, 3],
        "clips_per_second": {side: round(median, 3) for side, median in medians.items()},
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]],
        "rounds": rates,
        "machine": machine,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"Triton      {medians['triton']:7.2f} clips/s\nin-process  {medians['in_process']:7.2f} clips/s")
    print(f"ratio       {report['ratio_median']:7.3f}  (quartiles {report['ratio_quartiles']}, {args.rounds} rounds)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
