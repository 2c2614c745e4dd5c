"""What Triton costs: clips per second through the server, and through the same ONNX graphs in this process.

    python -m reelkind.benchmarks.serving_overhead [--bundle bundles/lite] [--concurrency 2] [--rounds 15]

Four sides get the same decoded clips, the same graphs and the same number of callers at once:

    triton       the embedded server over gRPC, frames through shared memory as the client does on one machine
    sessions     one ONNX Runtime session a graph, default options, one after the other for each clip
    divided      the same with the cores divided among the callers, who would get in each other's way otherwise
    as served    the same sessions, executed the way the server's runner does (a few frames a run, a run a thread)

``triton / divided`` is what a user gains or loses by serving; ``triton / as served`` is the pure cost of the
server, its wire and its processes. Rounds alternate, so that a slow minute of the machine hits every side; the
verdicts are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from reelkind.benchmarks import environment
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core.specs import Graph
from reelkind.deployment.embedded import embedded_server
from reelkind.export.pipelines.onnx_runtime import onnxruntime
from reelkind.export.pipelines.reference import OnnxPipeline
from reelkind.export.pipelines.steps import Stage, run_steps
from reelkind.export.repository.graph_files import find_graph_file
from reelkind.video import clip as video

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

Classify = Callable[[np.ndarray], object]
TRITON, SESSIONS, DIVIDED, AS_SERVED = "triton", "sessions", "divided", "as served"
Rates = dict[str, list[float]]
"""Side -> clips per second of each round, round i of one beside round i of the others."""


def plain_sessions(pipeline: OnnxPipeline, num_threads: int) -> Classify:
    """The pipeline's graphs as plain ONNX Runtime sessions: what one writes without a server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    by_name = {bundle.name: bundle for bundle in pipeline.members}

    def session(graph: Graph) -> Stage:
        file = str(find_graph_file(graph, by_name))
        made = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        names = [port.name for port in graph.inputs]
        return lambda inputs: made.run(None, dict(zip(names, inputs, strict=True)))

    stages = {step.graph.name: session(step.graph) for step in pipeline.ensemble.steps}
    return lambda clip: run_steps(pipeline.ensemble, stages, clip[None])


def clips_per_second(classify: Classify, clips: Sequence[np.ndarray], concurrency: int, num_clips: int) -> float:
    """Drive ``classify`` with ``concurrency`` callers over ``num_clips`` clips, closed loop."""
    with ThreadPoolExecutor(concurrency) as pool:
        began = time.perf_counter()
        list(pool.map(classify, (clips[i % len(clips)] for i in range(num_clips))))
        return num_clips / (time.perf_counter() - began)


def compare(
    sides: Mapping[str, Classify], clips: Sequence[np.ndarray], concurrency: int, rounds: int, num_clips: int
) -> Rates:
    """Alternate the sides for ``rounds`` rounds after one warm-up each; the order turns round every time."""
    rates: Rates = {side: [] for side in sides}
    for classify in sides.values():
        clips_per_second(classify, clips, concurrency, num_clips)
    for i in range(rounds):
        for side in list(sides)[:: 1 if i % 2 else -1]:
            rates[side].append(clips_per_second(sides[side], clips, concurrency, num_clips))
        print(
            f"round {i + 1:2}: " + ", ".join(f"{side} {found[-1]:.2f}" for side, found in rates.items()) + " clips/s",
            file=sys.stderr,
        )
    return rates


def ratio(rates: Rates, side: str, other: str) -> dict[str, float]:
    """Median and quartiles of the rounds' ratios."""
    ratios = [a / b for a, b in zip(rates[side], rates[other], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite")
    parser.add_argument("--concurrency", type=int, default=2, help="callers at once (default: 2)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of every side (default: 15)")
    parser.add_argument("--clips", type=int, default=12, help="clips a round (default: 12)")
    parser.add_argument("--json", type=Path, default=RESULTS / "serving_overhead_cpu.json")
    args = parser.parse_args(argv)

    bundle = bundles.load(args.bundle)
    samples = sorted((ROOT / "samples").glob("*.mp4"))
    size, frames = bundle.backbone.frame_size_px, bundle.num_frames
    clips = [video.read_clip(path, num_frames=frames, size_px=size).frames for path in samples]
    threads = os.cpu_count() or 1
    pipeline = OnnxPipeline(args.bundle, num_threads=threads)
    machine = environment.describe()
    with embedded_server([args.bundle], num_threads=threads) as server, Client(server.url) as client:
        sides = {
            TRITON: client.classify_frames,
            SESSIONS: plain_sessions(pipeline, threads),
            DIVIDED: plain_sessions(pipeline, max(threads // args.concurrency, 1)),
            AS_SERVED: lambda clip: pipeline(clip[None]),
        }
        rates = compare(sides, clips, args.concurrency, args.rounds, args.clips)
    medians = {side: statistics.median(values) for side, values in rates.items()}
    report = {
        "what": "clips/s through Triton (Python backend, ONNX Runtime, gRPC) beside the same graphs in-process",
        "bundle": bundle.name,
        "weights_sha256": bundles.weights_hash(bundle),
        "concurrency": args.concurrency,
        "threads": threads,
        "clip": [frames, size, size, 3],
        "clips_per_second": {side: round(median, 3) for side, median in medians.items()},
        "triton_to_sessions": ratio(rates, TRITON, SESSIONS),
        "triton_to_divided": ratio(rates, TRITON, DIVIDED),
        "triton_to_as_served": ratio(rates, TRITON, AS_SERVED),
        "rounds": rates,
        "machine": machine,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for side, median in medians.items():
        print(f"{side:10} {median:7.2f} clips/s")
    for key in ("triton_to_sessions", "triton_to_divided", "triton_to_as_served"):
        print(f"{key:20} {report[key]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
