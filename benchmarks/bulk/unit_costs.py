"""What the steps of a bulk job cost one by one, in CPU time, which other work on the machine moves little.

    python -m reelkind.benchmarks.bulk.unit_costs

Fetching is read and hashed without any network between. Videos to decode are made on the spot. Inference counts all
processes of the server.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.bulk import fetch_cost
from reelkind.benchmarks.bulk.watch import Watch
from reelkind.benchmarks.labelled_clips import sample_paths
from reelkind.benchmarks.numbered_video import Made, make
from reelkind.benchmarks.serving_overhead import RESULTS
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core import specs
from reelkind.core.timing.timeline import RATE
from reelkind.deployment.embedded import embedded_server, packaged_bundle
from reelkind.video import clip as video

VIDEOS = (Made("h264", 540, 300, 1), Made("h264", 540, 300, 10), Made("h264", 1080, 300, 10))
MEMBERS = ("clip", "lite")
NUM_CLIPS = 24
REPEATS = 3


def measure() -> dict[str, Any]:
    """All steps, JSON-ready."""
    machine = environment.describe()
    with tempfile.TemporaryDirectory(prefix="reelkind-bulk-") as scratch:
        fetching = fetch_cost.measure(Path(scratch))
        paths = [(made, make(made, Path(scratch))) for made in VIDEOS]
        decoding = [
            {
                "height": made.height_px,
                "seconds": made.seconds,
                "keyframe_every_s": made.gop_s,
                **_decoding(path, made.seconds),
            }
            for made, path in paths
        ]
    return {
        "what": "CPU seconds of the steps of a bulk job",
        "fetching_cpu_s_per_gb": fetching,
        "decoding": decoding,
        "inference": [_inference(name) for name in MEMBERS],
        "machine": machine,
    }


def _decoding(path: Path, seconds: int) -> dict[str, float]:
    def clip() -> None:
        video.read_clip(path, num_threads=1)

    def whole() -> None:
        for _ in video.read_stream(path, rate=RATE, num_threads=1):
            pass

    return {"clip_cpu_s": _least_cpu_s(clip), "whole_cpu_s_per_hour": round(_least_cpu_s(whole) * 3600 / seconds, 1)}


def _least_cpu_s(step: Callable[[], None]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return round(min(times), 3)


def _inference(member: str) -> dict[str, Any]:
    folder = packaged_bundle(member)
    loaded = bundles.load(folder)
    size, num_frames = loaded.backbone.frame_size_px, loaded.num_frames
    clips: list[np.ndarray] = [
        video.read_clip(path, num_frames=num_frames, size_px=size).frames for path in sample_paths()
    ]
    with embedded_server([folder], ensembles=[specs.classify_name()]) as server, Client(server.url) as client:
        for frames in clips:
            client.classify_frames(frames)
        with Watch(server.process_ids()) as watch:
            for number in range(NUM_CLIPS):
                client.classify_frames(clips[number % len(clips)])
    return {"member": member, "frames": num_frames, "clip_cpu_s": round(watch.cpu_s() / NUM_CLIPS, 3)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULTS / "bulk_unit_costs_cpu.json")
    args = parser.parse_args(argv)
    report = measure()
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in report.items() if key != "machine"}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
