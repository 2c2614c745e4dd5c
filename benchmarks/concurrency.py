"""What company does: clips per second with 1 to 8 callers at once, and whether Triton executes their requests together.

    python -m reelkind.benchmarks.concurrency [--bundle bundles/lite] [--callers 1 2 4 8] [--rounds 9]

Callers share one client and classify the same decoded clips in a closed loop, over the wire and through shared
memory. Rounds of all numbers of callers alternate, so that a slow minute of the machine hits every one; the verdict is
the median of the rounds' ratios to one caller. ``executions`` and ``clips`` are Triton's own counts
(``nv_inference_exec_count`` and ``nv_inference_count``): with fewer executions than clips, batching happens.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient

from reelkind.benchmarks import environment
from reelkind.benchmarks.serving_overhead import RESULTS, ROOT, clips_per_second, ratio
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core import specs
from reelkind.deployment.embedded import embedded_server
from reelkind.video import clip as video

Counts = Counter[tuple[str, str]]
"""(model, "clips" or "executions") -> how many."""


class Measurement:
    """Rates and counts of one way to the server.

    Args:
        url: of the server.
        shared_memory: whether frames go through it.
        clips: decoded, uint8 [T, S, S, 3] each.
        callers: numbers of callers to compare, the first being the measure of the others.
    """

    def __init__(self, url: str, shared_memory: bool, clips: Sequence[np.ndarray], callers: Sequence[int]) -> None:
        self._client = Client(url, shared_memory=shared_memory)
        self._triton = InferenceServerClient(url)
        self._clips, self._callers = clips, callers
        self.rates: dict[str, list[float]] = {str(number): [] for number in callers}
        self.counts: dict[int, Counts] = {number: Counter() for number in callers}

    def round(self, order: int, num_clips: int) -> None:
        """Once every number of callers; ``order`` is 1 or -1."""
        for number in self._callers[::order]:
            before = self._count()
            rate = clips_per_second(self._client.classify_frames, self._clips, number, num_clips)
            self.rates[str(number)].append(rate)
            self.counts[number] += self._count() - before

    def _count(self) -> Counts:
        answer = self._triton.get_inference_statistics()
        return Counter(
            {
                key: count
                for model in answer.model_stats
                for key, count in (
                    ((model.name, "clips"), model.inference_count),
                    ((model.name, "executions"), model.execution_count),
                )
            }
        )

    def report(self) -> dict[str, Any]:
        """For JSON, by number of callers."""
        first = str(self._callers[0])
        return {
            str(number): {
                "clips_per_second": round(statistics.median(self.rates[str(number)]), 3),
                "to_one_caller": ratio(self.rates, str(number), first),
                "models": {
                    model: {what: counts[model, what] for what in ("clips", "executions")}
                    for model in sorted({model for model, _ in counts})
                },
                "rounds": self.rates[str(number)],
            }
            for number, counts in self.counts.items()
        }

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
        self._triton.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 2, 4, 8], help="(default: 1 2 4 8)")
    parser.add_argument("--rounds", type=int, default=9, help="of every number of callers (default: 9)")
    parser.add_argument("--clips", type=int, default=24, help="clips a round (default: 24)")
    parser.add_argument("--json", type=Path, default=RESULTS / "concurrency.json")
    args = parser.parse_args(argv)

    bundle = bundles.load(args.bundle)
    size, frames = bundle.backbone.frame_size_px, bundle.num_frames
    samples = sorted((ROOT / "samples").glob("*.mp4"))
    clips = [video.read_clip(path, num_frames=frames, size_px=size).frames for path in samples]
    machine = environment.describe()
    with embedded_server([args.bundle], ensembles=[specs.classify_name()]) as server:
        ways = {
            name: Measurement(server.url, shared, clips, args.callers)
            for name, shared in (("wire", False), ("shared memory", True))
        }
        for measurement in ways.values():  # warm up, and forget it
            measurement.round(1, max(args.callers))
            measurement.rates = {number: [] for number in measurement.rates}
            measurement.counts = {number: Counter() for number in measurement.counts}
        for number in range(args.rounds):
            for measurement in ways.values():
                measurement.round(1 if number % 2 else -1, args.clips)
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr)
        report = {
            "what": "clips/s through Triton by number of callers at once; clips and executions of each model",
            "bundle": bundle.name,
            "weights_sha256": bundles.weights_hash(bundle),
            "clip": [frames, size, size, 3],
            "threads": os.cpu_count(),
            **{name: measurement.report() for name, measurement in ways.items()},
            "machine": machine,
        }
        for measurement in ways.values():
            measurement.close()
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(_table(report, list(ways), f"backbone_{bundle.name}"))
    return 0


def _table(report: dict[str, Any], ways: Sequence[str], backbone: str) -> str:
    rows = [f"{'callers':>7}  {'way':<14} {'clips/s':>8}  {'to one caller':>22}  {backbone}"]
    for way in ways:
        for callers, found in report[way].items():
            span = found["to_one_caller"]
            counts = found["models"][backbone]
            ratios = f"{span['median']:.2f} ({span['low']:.2f} .. {span['high']:.2f})"
            executed = f"{counts['executions']} executions for {counts['clips']} clips"
            rows.append(f"{callers:>7}  {way:<14} {found['clips_per_second']:>8.2f}  {ratios:>22}  {executed}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
