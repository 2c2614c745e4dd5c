"""What a limit of the queue costs: how long the last of a few clips takes that arrive at once, with and without it.

    python -m reelkind.benchmarks.bursts [--bundle bundles/lite] [--clips 5] [--rounds 60]

Four servers side by side, of the same graphs: with one and two instances of the backbone, each with and without a
limit of those who wait for it (``--max-queue``). Each is asked about short clips (two frames) at once, in turns; no
request is refused. tritonserver 2.51 hands requests on while all instances compute only where the queue has no limit;
where it has one, whoever arrives then waits for the next arrival, or for half a second (its
``dynamic_batch_scheduler.cc``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from reelkind.benchmarks import environment
from reelkind.benchmarks.serving_overhead import RESULTS, ROOT
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.deployment.embedded import temporary_repository
from reelkind.serving.install.runtime import find_runtime
from reelkind.serving.models import read_config
from reelkind.serving.server import TritonServer
from reelkind.video import clip as video

NUM_FRAMES = 2
STALL_MS = 400  # nothing these clips need; the batcher looks again after 500
WAYS = {
    "two instances, limit 64": (2, 64),  # as `reelkind serve` has it on a CPU
    "two instances, no limit": (2, None),
    "one instance, limit 64": (1, 64),
    "one instance, no limit": (1, None),  # as GPU flavours have it
}
"""Way -> instances of the backbone, and requests that may wait for it."""


def last_answer_ms(client: Client, clips: Sequence[np.ndarray]) -> float:
    """Milliseconds until all clips, asked at once, are answered."""
    with ThreadPoolExecutor(len(clips)) as callers:
        began = time.perf_counter()
        list(callers.map(client.classify_frames, clips))
        return 1e3 * (time.perf_counter() - began)


def measure(bundle: Bundle, clips: Sequence[np.ndarray], rounds: int) -> dict[str, list[float]]:
    """Way -> milliseconds of each round."""
    runtime = find_runtime()
    with ExitStack() as stack:
        clients = {}
        for name, (num_instances, limit) in WAYS.items():
            built = temporary_repository([bundle.path()], runtime, ensembles=[specs.classify_name()])
            repository = stack.enter_context(built)
            _change(repository / specs.backbone_graph(bundle).name / "config.pbtxt", num_instances, limit)
            server = TritonServer(repository, runtime=runtime, grpc_port=0, http_port=0, metrics_port=0)
            clients[name] = stack.enter_context(Client(stack.enter_context(server).url))
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for number in range(-1, rounds):  # the first is for warming up
            for name in list(WAYS)[:: 1 if number % 2 else -1]:
                taken = last_answer_ms(clients[name], clips)
                if number >= 0:
                    times[name].append(taken)
    return times


def _change(path: Path, num_instances: int, limit: int | None) -> None:
    config = read_config(path)
    config.instance_group[0].count = num_instances
    policy = config.dynamic_batching.default_queue_policy
    if limit is None:
        config.dynamic_batching.ClearField("default_queue_policy")
    else:
        policy.max_queue_size = limit
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a line a way, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite")
    parser.add_argument("--clips", type=int, default=5, help="at once (default: 5)")
    parser.add_argument("--rounds", type=int, default=60, help="of each server (default: 60)")
    parser.add_argument("--json", type=Path, default=RESULTS / "bursts_cpu.json")
    args = parser.parse_args(argv)

    bundle = bundles.load(args.bundle)
    samples = sorted((ROOT / "samples").glob("*.mp4"))
    size = bundle.backbone.frame_size_px
    clips = [
        video.read_clip(samples[number % len(samples)], num_frames=NUM_FRAMES, size_px=size).frames
        for number in range(args.clips)
    ]
    machine = environment.describe()
    times = measure(bundle, clips, args.rounds)
    report = {
        "what": "milliseconds until the last of some clips, asked at once, is answered; with and without a queue limit",
        "bundle": bundle.name,
        "weights_sha256": bundles.weights_hash(bundle),
        "clip": [NUM_FRAMES, size, size, 3],
        "clips_at_once": args.clips,
        "last_answer_ms": {
            name: {
                "median": round(statistics.median(found), 1),
                "most": round(max(found), 1),
                "stalled": sum(taken > STALL_MS for taken in found),
            }
            for name, found in times.items()
        },
        "rounds": {name: [round(taken, 1) for taken in found] for name, found in times.items()},
        "machine": machine,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, found in report["last_answer_ms"].items():
        print(
            f"{name:24} median {found['median']:6.1f} ms, most {found['most']:6.1f} ms, "
            f"{found['stalled']} of {args.rounds} over {STALL_MS} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
