"""What ``switch_penalty`` does to the segments of timelines, on videos joined of clips whose class is known.

    python -m reelkind.benchmarks.timelines.segments --data DATA [--sources clips recorded] [--bundle bundles/lite]

The features of validation clips, at the rate of timelines, are joined in random order: a segment is clips of one class,
each of which the model may take for another, until its length is filled. Lengths are drawn log-uniformly from three
ranges. What is joined is written to features files and told by `Client.timeline`, so nothing but decoding is left out.

    time right   share of the time whose segment has the right class
    found        segments told for each that there is
    F1           of segments; one is right if it shares more than half of its union with a told one of the same class
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reelkind.benchmarks import environment
from reelkind.client import Client, Segment
from reelkind.core import specs
from reelkind.core.features import Features
from reelkind.core.files import features_files
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.core.timing.timeline import RATE
from reelkind.datasets.samples import read_samples
from reelkind.deployment.embedded import embedded_server

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
MODELS = (specs.classify_name(), specs.features_name(), specs.classify_features_name())
PENALTIES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 8.0)
LENGTHS_S = ((8, 30), (15, 120), (60, 400))
MINUTES = 20

Stretch = tuple[float, float, str | None]
"""(start, end, class), in any unit of time"""


def join(
    clips: Mapping[str, Sequence[Features]], lengths_s: tuple[float, float], seed: int
) -> tuple[Features, list[Stretch]]:
    """A video of ``MINUTES`` by features of clips of each class, and what it shows when in milliseconds."""
    random = np.random.default_rng(seed)
    first = next(iter(clips.values()))[0]
    rate = first.recipe.rate
    parts: list[dict[str, np.ndarray]] = []
    truth: list[Stretch] = []
    num_frames, label = 0, None
    while num_frames < MINUTES * 60 * rate:
        label = str(random.choice([name for name in clips if name != label]))
        length = round(np.exp(random.uniform(*np.log(lengths_s))) * rate)
        joined = _fill(clips[label], length, random)
        parts.append(joined)
        truth.append((num_frames * 1000 / rate, (num_frames + length) * 1000 / rate, label))
        num_frames += length
    arrays = {member: np.concatenate([part[member] for part in parts], axis=1) for member in first.arrays}
    times_ms = (np.arange(num_frames) * 1000 / rate).astype(np.int64)
    return replace(first, arrays=arrays, times_ms=times_ms, duration_ms=round(num_frames * 1000 / rate)), truth


def _fill(clips: Sequence[Features], length: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Features of clips in random order, repeated until there are ``length`` frames: member -> [V, length, D]."""
    order: list[Features] = []
    while sum(clip.times_ms.size for clip in order) < length:
        order += [clips[i] for i in random.permutation(len(clips))]
    return {
        member: np.concatenate([clip.arrays[member] for clip in order], axis=1)[:, :length]
        for member in clips[0].arrays
    }


def compare(told: Sequence[Stretch], truth: Sequence[Stretch]) -> dict[str, float]:
    """The figures that the module describes."""
    shared = np.array([[max(0.0, min(a[1], b[1]) - max(a[0], b[0])) * (a[2] == b[2]) for b in told] for a in truth])
    told_lengths, true_lengths = (np.array([end - start for start, end, _ in each]) for each in (told, truth))
    hits = (shared > 0.5 * (true_lengths[:, None] + told_lengths - shared)).any(axis=1)
    return {
        "time_right": shared.sum() / true_lengths.sum(),
        "found": len(told) / len(truth),
        "f1": 2 * hits.sum() / (len(told) + len(truth)),
    }


def measure(
    client: Client, clips: Mapping[str, Sequence[Features]], num_videos: int, scratch: Path
) -> list[dict[str, object]]:
    """Means over the videos of each range of lengths, at each penalty."""
    rows: list[dict[str, object]] = []
    for lengths_s in LENGTHS_S:
        found = defaultdict(list)
        for seed in range(num_videos):
            joined, truth = join(clips, lengths_s, seed)
            path = scratch / f"joined{features_files.SUFFIX}"
            features_files.save(joined, path)
            for penalty in PENALTIES:
                told = [_stretch(segment) for segment in client.timeline(path, switch_penalty=penalty).segments]
                found[penalty].append(compare(told, truth))
            print(f"segments of {lengths_s[0]} to {lengths_s[1]} s: {seed + 1} / {num_videos} videos", file=sys.stderr)
        for penalty, each in found.items():
            means = {name: round(float(np.mean([one[name] for one in each])), 3) for name in each[0]}
            rows.append({"lengths_s": lengths_s, "switch_penalty": penalty, **means})
    return rows


def _stretch(segment: Segment) -> Stretch:
    return segment.start_ms, segment.end_ms, segment.label


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled clips, as for `reelkind evaluate`")
    parser.add_argument("--sources", nargs="+", default=["clips"], help="folders of --data (default: clips)")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite", help="default: bundles/lite")
    parser.add_argument("--videos", type=int, default=10, help="joined for each range of lengths (default: 10)")
    parser.add_argument("--json", type=Path, default=RESULTS / "segments.json")
    args = parser.parse_args(argv)

    samples = [sample for sample in read_samples(args.data, args.sources) if sample.split == "val"]
    machine = environment.describe()
    clips: dict[str, list[Features]] = {name: [] for name in CLASSES}
    with (
        embedded_server([args.bundle], ensembles=MODELS) as server,
        Client(server.url) as client,
        tempfile.TemporaryDirectory(prefix="reelkind-segments-") as scratch,
    ):
        info = client.server_info()
        for number, sample in enumerate(samples, 1):
            print(f"\r{number} / {len(samples)} clips", end="", file=sys.stderr)
            clips[CLASSES[sample.label]].append(client.extract_features(sample.path, rate=RATE))
        print(file=sys.stderr)
        rows = measure(client, clips, args.videos, Path(scratch))
    report = {
        "what": "segments of videos joined of validation clips, by the penalty for a change of class",
        "members": info.model.members,
        "weights_sha256": info.model.weights,
        "sources": args.sources,
        "num_clips": len(samples),
        "videos": {"each": args.videos, "minutes": MINUTES},
        "means": rows,
        "machine": machine,
    }
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
