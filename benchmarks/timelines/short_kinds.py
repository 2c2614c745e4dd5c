"""Timelines of videos whose kind changes every few seconds: is every kind found, and where it begins?

    python -m reelkind.benchmarks.timelines.short_kinds --bundle bundles/lite --clips CLIPS

CLIPS is a folder with a folder of clips for each class, where clips of one work have names that differ by their number.
A made video has twelve segments of one length, each a clip of another class than the one before, repeated where it is
shorter. Half of the works make videos to choose by (every rate, window and penalty asked for), the other half those
that are reported, at the defaults.

    found       segments that share at least half of their union with a told one of the same class
    time right  share of the time whose segment has the right class
    border      how far each change is from the nearest that is told, seconds

All of it twice: against what the videos show, and against what the model says of each clip alone, where neighbours of
one answer are one segment: what a timeline cannot know is not held against it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.timelines import made_video
from reelkind.benchmarks.timelines.segments import Stretch
from reelkind.client import Client, ProcessDecoder
from reelkind.core import specs
from reelkind.core.files import features_files
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.core.timing.segments import SWITCH_PENALTY
from reelkind.core.timing.timeline import RATE, WINDOW_S
from reelkind.deployment.embedded import embedded_server

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
MODELS = (specs.classify_name(), specs.features_name(), specs.classify_features_name())
NUM_SEGMENTS = 12
LENGTHS_S = (4.0, 6.0, 8.0, 10.0, 15.0, 30.0)

Clips = Mapping[str, Sequence[Path]]
"""class -> clips"""

Setting = tuple[float, float, float]
"""(frames a second, seconds of a window, nats for a change)"""


def halves(folder: Path) -> tuple[Clips, Clips]:
    """The clips of every second work, to choose by, and those of the others, to report.

    Raises:
        ValueError: if a class has no two works.
    """
    found: tuple[dict[str, list[Path]], dict[str, list[Path]]] = ({}, {})
    for label in CLASSES:
        works: dict[str, list[Path]] = defaultdict(list)
        for path in sorted((folder / label).glob("*.mp4")):
            works[re.sub(r"_?\d+$", "", path.stem)].append(path)
        if len(works) < 2:
            raise ValueError(f"{folder / label} needs clips of at least two works, has {', '.join(works) or 'none'}")
        for number, work in enumerate(sorted(works)):
            found[number % 2].setdefault(label, []).extend(works[work])
    return found


def plan(clips: Clips, seed: int) -> list[tuple[str, Path]]:
    """Twelve (class, clip): all classes in random orders, none twice in a row, each clip as seldom as can be."""
    random = np.random.default_rng(seed)
    labels: list[str] = []
    while len(labels) < NUM_SEGMENTS:
        order = [str(label) for label in random.permutation(list(clips))]
        if not labels or order[0] != labels[-1]:
            labels += order
    waiting: dict[str, list[Path]] = {label: [] for label in clips}
    chosen = []
    for label in labels[:NUM_SEGMENTS]:
        if not waiting[label]:
            waiting[label] = [clips[label][i] for i in random.permutation(len(clips[label]))]
        chosen.append((label, waiting[label].pop()))
    return chosen


def judge(told: Sequence[Stretch], truth: Sequence[Stretch]) -> dict[str, Any]:
    """Segments found of those there are, time right and in all, and how far off each border is; times in milliseconds.

    Neighbours of one class in ``truth`` are one segment.
    """
    merged: list[Stretch] = []
    for start, end, label in truth:
        if merged and merged[-1][2] == label:
            merged[-1] = (merged[-1][0], end, label)
        else:
            merged.append((start, end, label))
    found, right = 0, 0.0
    for start, end, label in merged:
        same = [(a, b, min(end, b) - max(start, a)) for a, b, other in told if other == label]
        found += any(shared >= 0.5 * (max(end, b) - min(start, a)) for a, b, shared in same)
        right += sum(max(0.0, shared) for _, _, shared in same)
    borders = [end for _, end, _ in told[:-1]]
    errors = [min((abs(end - border) for border in borders), default=end) / 1000 for _, end, _ in merged[:-1]]
    return {"found": found, "segments": len(merged), "right_ms": right, "ms": merged[-1][1], "border_errors_s": errors}


def sum_up(judged: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Figures of several videos as one."""
    errors = [error for each in judged for error in each["border_errors_s"]]
    return {
        "found": sum(each["found"] for each in judged),
        "segments": sum(each["segments"] for each in judged),
        "time_right": round(sum(each["right_ms"] for each in judged) / sum(each["ms"] for each in judged), 3),
        "border_median_s": round(statistics.median(errors), 2) if errors else None,
        "border_most_s": round(max(errors), 2) if errors else None,
        "borders_within_2_s": round(sum(error <= 2 for error in errors) / len(errors), 3) if errors else None,
    }


class Judge:
    """Makes videos and their timelines, and remembers what the model says of each clip.

    Args:
        client: asks about them.
        scratch: a folder for videos and features.
        num_videos: of each length.
    """

    def __init__(self, client: Client, scratch: Path, num_videos: int) -> None:
        self._client = client
        self._scratch = scratch
        self._num_videos = num_videos
        self._alone: dict[Path, str | None] = {}

    def measure(self, clips: Clips, lengths_s: Sequence[float], settings: Sequence[Setting]) -> list[dict[str, Any]]:
        """Figures of each length at each setting."""
        return [row for length_s in lengths_s for row in self._of_length(clips, length_s, settings)]

    def _of_length(self, clips: Clips, length_s: float, settings: Sequence[Setting]) -> Iterator[dict[str, Any]]:
        judged: dict[Setting, list[dict[str, dict[str, Any]]]] = defaultdict(list)
        right_alone = 0
        for seed in range(self._num_videos):
            print(f"segments of {length_s:g} s: video {seed + 1} / {self._num_videos}", file=sys.stderr)
            parts = plan(clips, seed)
            alone = [self._label(clip) for _, clip in parts]
            right_alone += sum(answer == label for answer, (label, _) in zip(alone, parts, strict=True))
            truth = _stretches([label for label, _ in parts], length_s)
            video = self._scratch / "video.mp4"
            made_video.make([clip for _, clip in parts], length_s, video)
            for setting, told in self._tell(video, settings):
                both = {"shown": judge(told, truth), "alone": judge(told, _stretches(alone, length_s))}
                judged[setting].append(both)
        for (rate, window_s, penalty), each in judged.items():
            yield {
                "length_s": length_s,
                "rate": rate,
                "window_s": window_s,
                "switch_penalty": penalty,
                "right_alone": right_alone,
                **{how: sum_up([one[how] for one in each]) for how in ("shown", "alone")},
            }

    def _label(self, clip: Path) -> str | None:
        if clip not in self._alone:
            self._alone[clip] = self._client.classify(clip).label
        return self._alone[clip]

    def _tell(self, video: Path, settings: Sequence[Setting]) -> Iterator[tuple[Setting, list[Stretch]]]:
        """Segments at each setting; frames pass the backbone once a rate."""
        for rate in dict.fromkeys(setting[0] for setting in settings):
            path = self._scratch / f"video{features_files.SUFFIX}"
            features_files.save(self._client.extract_features(video, rate=rate), path)
            for setting in settings:
                if setting[0] == rate:
                    timeline = self._client.timeline(path, window_s=setting[1], switch_penalty=setting[2])
                    yield setting, [(each.start_ms, each.end_ms, each.label) for each in timeline.segments]


def _stretches(labels: Sequence[str | None], length_s: float) -> list[Stretch]:
    edges_ms = [i * length_s * 1000 for i in range(len(labels) + 1)]
    return [(start, end, label) for (start, end), label in zip(pairwise(edges_ms), labels, strict=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder of a folder of clips a class")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite", help="default: bundles/lite")
    parser.add_argument("--lengths", type=float, nargs="+", default=LENGTHS_S, metavar="S", help="of segments")
    parser.add_argument("--videos", type=int, default=3, help="of each length (default: 3)")
    parser.add_argument("--rates", type=float, nargs="+", default=[RATE], metavar="R", help="to choose among")
    parser.add_argument("--windows", type=float, nargs="+", default=[2, 3, 4, 6, 8], metavar="S", help="likewise")
    parser.add_argument("--penalties", type=float, nargs="+", default=[SWITCH_PENALTY], metavar="NATS", help="likewise")
    parser.add_argument("--json", type=Path, help="default: results/short_kinds_BUNDLE.json")
    args = parser.parse_args(argv)

    choosing, reporting = halves(args.clips)
    machine = environment.describe()
    with (
        embedded_server([args.bundle], ensembles=MODELS) as server,
        ProcessDecoder(1) as decoder,
        Client(server.url, decoder=decoder) as client,
        tempfile.TemporaryDirectory(prefix="reelkind-short-kinds-") as scratch,
    ):
        info = client.server_info()
        judge_of = Judge(client, Path(scratch), args.videos)
        reported = judge_of.measure(reporting, args.lengths, [(RATE, WINDOW_S, SWITCH_PENALTY)])
        settings = list(product(args.rates, args.windows, args.penalties))
        chosen_by = judge_of.measure(choosing, args.lengths, settings) if settings else []
    report = {
        "what": "timelines of made videos of twelve segments, by the length of segments",
        "members": info.model.members,
        "weights_sha256": info.model.weights,
        "clips": {"reported": sum(map(len, reporting.values())), "chosen_by": sum(map(len, choosing.values()))},
        "videos_of_each_length": args.videos,
        "reported": reported,
        "chosen_by": chosen_by,
        "machine": machine,
    }
    text = json.dumps(report, indent=2)
    file = args.json or RESULTS / f"short_kinds_{args.bundle.resolve().name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
