"""Timelines of made videos whose contents are known: are borders and labels right, is memory flat, does work overlap?

    python -m reelkind.benchmarks.timelines.long_videos borders CLIPS [--minutes 30]
    python -m reelkind.benchmarks.timelines.long_videos overlap CLIPS [--minutes 60] [--rounds 3]

CLIPS is a folder with a folder of clips for each class, where clips of one kind have names that differ by their number;
without it the samples are used. The video has twelve segments, classes by turns, each a clip repeated.

    borders    found segments beside where they are, and beside what the model says of each clip alone; memory
    overlap    the same work three ways, alternating: decoding alone, inference alone (chunks from memory), and the
               timeline, which does both. The server has one core to itself, the client and its decoder (one thread)
               another: nothing else may run on the machine, as the other two ways leave it a core
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice, pairwise
from pathlib import Path

from reelkind.benchmarks import environment
from reelkind.benchmarks.timelines import made_video
from reelkind.client import Client, InlineDecoder, ProcessDecoder, Timeline
from reelkind.core import specs
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.core.timing.timeline import RATE
from reelkind.deployment.embedded import embedded_server
from reelkind.video import clip as video

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
NUM_SEGMENTS = 12
NUM_CHUNKS = 4  # kept in memory for inference alone
MODELS = (specs.classify_name(), specs.features_name(), specs.classify_features_name())


class FromMemory(InlineDecoder):
    """A decoder whose streams cost nothing: chunks decoded before, as often as a video is long."""

    def __init__(self, chunks: Sequence[video.Chunk], num_chunks: int) -> None:
        super().__init__()
        self._chunks = chunks
        self._num_chunks = num_chunks

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[video.Chunk, None, None]:
        """As many frames as the video has, though not its own."""
        for i in range(self._num_chunks):
            chunk = self._chunks[i % len(self._chunks)]
            end_ms = round((i + 1) * len(chunk.frames) * 1000 / rate)
            yield video.Chunk(chunk.frames, chunk.times_ms, end_ms, end_ms, i == self._num_chunks - 1)


def choose_clips(folder: Path | None) -> list[tuple[str, Path]]:
    """Twelve (class, clip), classes by turns, each clip of another work where there are three."""
    if folder is None:
        samples = {path.name.partition("_")[0]: path for path in sorted((ROOT / "samples").glob("*.mp4"))}
        return [(label, samples[label]) for _ in range(NUM_SEGMENTS // len(CLASSES)) for label in CLASSES]
    by_class = {}
    for label in CLASSES:
        works = {
            re.sub(r"_?\d+$", "", path.stem): path for path in sorted((folder / label).glob("*.mp4"), reverse=True)
        }
        by_class[label] = [works[work] for work in sorted(works)]
    return [
        (label, by_class[label][i % len(by_class[label])])
        for i in range(NUM_SEGMENTS // len(CLASSES))
        for label in CLASSES
    ]


def borders(clips: Sequence[tuple[str, Path]], minutes: float, scratch: Path) -> dict[str, object]:
    """Make a video of all clips and its timeline; compare, and watch the client's memory."""
    path, segment_s = scratch / "segments.mp4", minutes * 60 / len(clips)
    made_video.make([clip for _, clip in clips], segment_s, path)
    resident: dict[str, list[float]] = {"client": [], "decoder": []}
    with (
        embedded_server(ensembles=MODELS) as server,
        nullcontext(children()) as others,
        ProcessDecoder(1) as decoder,
        Client(server.url, decoder=decoder) as client,
    ):
        alone = [client.classify(clip).label for _, clip in clips]
        began = time.perf_counter()
        for event in client.stream_timeline(path):
            resident["client"].append(resident_mb("self"))
            resident["decoder"].append(sum(map(resident_mb, children() - others)))
            if isinstance(event, Timeline):
                timeline = event
        wall_s = time.perf_counter() - began
    parts = [
        {
            "class": label,
            "clip": clip.stem,
            "alone": single,
            "in_timeline": _commonest(timeline, i * segment_s * 1000, (i + 1) * segment_s * 1000),
        }
        for i, ((label, clip), single) in enumerate(zip(clips, alone, strict=True))
    ]
    return {
        "minutes": minutes,
        "window_s": timeline.windows[0].end_ms / 1000,
        "parts": parts,
        "right_alone": sum(part["alone"] == part["class"] for part in parts),
        "right_in_timeline_where_right_alone": sum(
            part["in_timeline"] == part["class"] == part["alone"] for part in parts
        ),
        "border_errors_s": border_errors_s([segment.end_ms for segment in timeline.segments[:-1]], alone, segment_s),
        "num_segments": len(timeline.segments),
        "resident_mb": {name: _summary(each) for name, each in resident.items()},
        "wall_s": round(wall_s, 1),
    }


def border_errors_s(found_ms: Sequence[int], labels: Sequence[str | None], segment_s: float) -> list[float | None]:
    """How far each border of a made video is from the nearest that was found; None if none was.

    Args:
        found_ms: borders that were found.
        labels: what the model says of each clip alone: between two of the same there is no border to be found.
        segment_s: how long each clip lasts.
    """
    real_ms = [(i + 1) * segment_s * 1000 for i, (a, b) in enumerate(pairwise(labels)) if a != b]
    if not found_ms:
        return [None] * len(real_ms)
    return [round(min(abs(found - real) for found in found_ms) / 1000, 2) for real in real_ms]


def overlap(clips: Sequence[tuple[str, Path]], minutes: float, rounds: int, scratch: Path) -> dict[str, object]:
    """Decoding alone, inference alone, and both at once."""
    path = scratch / "overlap.mp4"
    made_video.make([clip for _, clip in clips], minutes * 60 / len(clips), path)
    cores = sorted(os.sched_getaffinity(0))
    with (
        on_core(cores[-1]),
        embedded_server(ensembles=MODELS, num_threads=1) as server,
        on_core(cores[0]),
        ProcessDecoder(1, num_threads=1) as decoder,
        Client(server.url, decoder=decoder) as client,
    ):
        size_px, rate = client.server_info().frame_size_px, RATE
        # Of the video itself: a picture that stays on screen is sent once, so as many must be new here as there.
        chunks = list(islice(video.read_stream(path, rate=rate, size_px=size_px, num_threads=1), NUM_CHUNKS))
        memory = FromMemory(chunks, round(minutes * 60 * rate / video.CHUNK_FRAMES))
        with Client(server.url, decoder=memory) as undecoding:
            undecoding.timeline("warm-up")
            work: dict[str, Callable[[], object]] = {
                "decoding alone": lambda: deque(decoder.stream(path, rate=rate, size_px=size_px), maxlen=0),
                "inference alone": lambda: undecoding.timeline(path),
                "timeline": lambda: client.timeline(path),
            }
            seconds = _alternate(work, rounds)
    ratios = [
        both / max(decoding, inference)
        for decoding, inference, both in zip(*(seconds[name] for name in seconds), strict=True)
    ]
    return {
        "minutes": minutes,
        "size_px": made_video.SIZE_PX,
        "fps": made_video.FPS,
        "cores": {"server": 1, "client and decoder": 1},
        "seconds": seconds,
        "timeline_to_slower_half": {
            "median": round(statistics.median(ratios), 3),
            "rounds": [round(ratio, 3) for ratio in ratios],
        },
    }


def _alternate(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each kind of work takes, in rounds whose order turns round every time."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for i in range(rounds):
        for name in list(work)[:: 1 if i % 2 else -1]:
            began = time.perf_counter()
            work[name]()
            seconds[name].append(round(time.perf_counter() - began, 2))
            load = os.getloadavg()[0]
            print(f"round {i + 1}: {name} {seconds[name][-1]:.1f} s (load {load:.1f})", file=sys.stderr)
    return seconds


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What this process starts meanwhile runs on one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def resident_mb(pid: int | str) -> float:
    """Memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def children() -> set[int]:
    """Processes that this one has started."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(pid) for each in lists for pid in each.read_text(encoding="utf-8").split()}


def _summary(resident: Sequence[float]) -> dict[str, float]:
    """At first, and the least and the most once a twentieth of the video has been seen."""
    settled = resident[len(resident) // 20 :]
    return {"first": round(resident[0], 1), "least": round(min(settled), 1), "most": round(max(settled), 1)}


def _commonest(timeline: Timeline, start_ms: float, end_ms: float) -> str | None:
    """The label that fills most of a stretch."""
    times: dict[str | None, float] = {}
    for segment in timeline.segments:
        shared = min(end_ms, segment.end_ms) - max(start_ms, segment.start_ms)
        times[segment.label] = times.get(segment.label, 0) + max(0.0, shared)
    return max(times, key=lambda label: times[label])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("borders", "overlap"))
    parser.add_argument("clips", nargs="?", type=Path, help="folder of a folder of clips a class (default: samples)")
    parser.add_argument("--minutes", type=float, help="length of the video (default: 30 for borders, 60 for overlap)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of overlap (default: 3)")
    parser.add_argument("--json", type=Path, help="default: results/timeline_WHAT_cpu.json")
    args = parser.parse_args(argv)

    clips, machine = choose_clips(args.clips), environment.describe()
    with tempfile.TemporaryDirectory(prefix="reelkind-timeline-") as scratch:
        if args.what == "borders":
            found = borders(clips, args.minutes or 30, Path(scratch))
        else:
            found = overlap(clips, args.minutes or 60, args.rounds, Path(scratch))
    report = {"what": f"timeline of a made video: {args.what}", **found, "machine": machine}
    text = json.dumps(report, indent=2)
    file = args.json or RESULTS / f"timeline_{args.what}_cpu.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
