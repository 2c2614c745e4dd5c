"""Bad files through the way that `reelkind classify` reads them: is each answered or refused, and at what cost?

    python -m reelkind.benchmarks.reliability.files [--files 10000] [--seed 16] [--quick] [--json FILE] [--keep FOLDER]

Sound videos in every container and codec that FFmpeg writes here, files made to do harm, paths that are no files, and
sound videos that a seeded generator has damaged. Each goes through a decoding process with its limits and, if that
finds frames, to an embedded server; every tenth damaged one is also read to its end as a timeline reads it. Now and
then a sound sample is asked about: its answer must stay the same.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelkind.benchmarks import environment
from reelkind.benchmarks.reliability import mutations, reports
from reelkind.benchmarks.reliability.hostile_files import BOMBS, write_special
from reelkind.benchmarks.reliability.seed_videos import Seed, write_all
from reelkind.benchmarks.timelines.long_videos import children
from reelkind.client import Client, ProcessDecoder
from reelkind.core import specs
from reelkind.core.errors import ReelkindError, VideoError
from reelkind.core.limits import MEMORY_BYTES
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.deployment.embedded import embedded_server
from reelkind.video.decoding import DECODE_TIMEOUT_S

NUM_FRAMES = 4  # of a clip: enough to seek, few enough for ten thousand inferences
STREAM_EVERY, STREAM_RATE, STREAM_SIZE_PX = 10, 2.0, 32
CONTROL_EVERY = 200  # files between two looks at a sound one
LOOK_S = 0.02
TOLERANCE = 1e-4  # of a probability: batches of other sizes add up in another order
QUICK_CODECS, QUICK_MUXERS = ["libx264", "mpeg4", "gif", "mjpeg"], ["mp4", "matroska", "avi", "mpegts", "gif"]
QUICK_BOMBS = ("larger packets", "false header", "late picture")

ANSWERED, REFUSED, LIMITED = "answered", "refused", "refused at a limit"
CRASHED, UNFORESEEN, ESCAPED, MISNAMED = "decoder crashed", "no sentence", "exception", "wrong name"
BAD = (CRASHED, UNFORESEEN, ESCAPED, MISNAMED)
_SENTENCES = (  # what a refusal says -> what it is; any other is an ordinary one
    (r"its decoder (crashed|ended|was killed)", CRASHED),
    (r"cannot be decoded \(\w+:", UNFORESEEN),
    (r"decoding needs more|decoding took longer|more processor time", LIMITED),
)


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        verdict: one of the constants above.
        sentence: of the refusal, without the path; empty if it was answered.
        seconds: until then.
        peak_mib: most memory of the decoding process meanwhile, resident.
    """

    verdict: str
    sentence: str
    seconds: float
    peak_mib: float


def judge(path: Path, act: Callable[[], object]) -> tuple[str, str]:
    """Verdict and sentence of reading a file.

    Args:
        path: what an answer or an error must be about.
        act: reads it; a prediction it returns is looked at.
    """
    try:
        found = act()
    except VideoError as error:
        if error.path != str(path):
            return MISNAMED, str(error)
        kind = next((kind for words, kind in _SENTENCES if re.match(words, error.reason)), REFUSED)
        return kind, error.reason
    except ReelkindError as error:  # the server's: there was a clip
        return ESCAPED, f"{type(error).__name__}: {error}"
    except Exception as error:
        return ESCAPED, f"{type(error).__name__}: {error}"
    label, about = getattr(found, "label", CLASSES[0]), getattr(found, "path", str(path))
    return (ANSWERED, "") if label in CLASSES and about == str(path) else (MISNAMED, f"{about}: {label}")


class Reader:
    """Reads files one after the other, and watches the process that decodes them.

    Args:
        classify: a path to a prediction.
        stream: a path to chunks.
        decoders: ids of the decoding processes there are now.
    """

    def __init__(
        self,
        classify: Callable[[Path], object],
        stream: Callable[[Path], Iterator[object]],
        decoders: Callable[[], set[int]],
    ) -> None:
        self._classify, self._stream, self._decoders = classify, stream, decoders

    def read(self, path: Path) -> Outcome:
        """As ``reelkind classify``."""
        return self._watched(path, lambda: self._classify(path))

    def read_stream(self, path: Path) -> Outcome:
        """As ``reelkind timeline``, without the server."""
        return self._watched(path, lambda: sum(1 for _ in self._stream(path)))

    def _watched(self, path: Path, act: Callable[[], object]) -> Outcome:
        with peak_memory(self._decoders) as peak:
            began = time.perf_counter()
            verdict, sentence = judge(path, act)
            seconds = time.perf_counter() - began
        return Outcome(verdict, sentence, round(seconds, 3), round(peak[0], 1))


@contextmanager
def peak_memory(processes: Callable[[], set[int]]) -> Iterator[list[float]]:
    """Most resident memory, MiB, that one of the processes reaches within the block: one number in a list."""
    for pid in processes():
        with _lenient(), Path(f"/proc/{pid}/clear_refs").open("w", encoding="utf-8") as file:
            file.write("5")  # the peak begins anew
    found, ended = [0.0], threading.Event()

    def look() -> None:
        for pid in processes():
            with _lenient():
                status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
                peak = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
                found[0] = max(found[0], int(peak[1]) / 1024 if peak else 0)

    def watch() -> None:
        while not ended.wait(LOOK_S):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        look()


@contextmanager
def _lenient() -> Iterator[None]:
    """A process may end while it is looked at."""
    try:
        yield
    except OSError:
        return


@dataclass
class Tally:
    """Outcomes of a kind of files, counted.

    Attributes:
        counts: by verdict.
        sentences: how often each refusal, numbers left out.
        bad: (file, verdict, sentence) of those that must not be.
        slowest: (file, outcome).
        largest: (file, outcome).
    """

    counts: Counter[str] = field(default_factory=Counter)
    sentences: Counter[str] = field(default_factory=Counter)
    bad: list[tuple[str, str, str]] = field(default_factory=list)
    slowest: tuple[str, Outcome] | None = None
    largest: tuple[str, Outcome] | None = None

    def add(self, name: str, outcome: Outcome) -> None:
        """One more."""
        self.counts[outcome.verdict] += 1
        if outcome.sentence:
            self.sentences[re.sub(r"\d[\d.]*", "N", outcome.sentence)] += 1
        if outcome.verdict in BAD:
            self.bad.append((name, outcome.verdict, outcome.sentence))
        if self.slowest is None or outcome.seconds > self.slowest[1].seconds:
            self.slowest = name, outcome
        if self.largest is None or outcome.peak_mib > self.largest[1].peak_mib:
            self.largest = name, outcome

    def report(self) -> dict[str, Any]:
        """JSON-ready."""
        extremes = {
            name: {
                "file": found[0],
                "seconds": found[1].seconds,
                "peak_mib": found[1].peak_mib,
                "came": found[1].verdict,
            }
            for name, found in (("slowest", self.slowest), ("largest", self.largest))
            if found is not None
        }
        return {
            "files": self.counts.total(),
            "counts": dict(self.counts),
            "bad": [list(each) for each in self.bad],
            **extremes,
            "sentences": dict(self.sentences.most_common(25)),
        }


def damaged(seeds: Sequence[Seed], seed: int, count: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Damaged files, each gone when the next is asked for: what was done to what, and where it lies.

    Args:
        seeds: sound videos.
        seed: of the generator.
        count: how many.
        folder: where to.
    """
    contents: dict[Path, bytes] = {}

    def content(number: int) -> bytes:
        path = seeds[number % len(seeds)].path
        return contents.setdefault(path, path.read_bytes())

    for number in range(count):
        data, done = mutations.mutate(seed, number, content(number), content(number * 7 + 1))
        source = seeds[number % len(seeds)]
        path = folder / f"{number}.bin"
        path.write_bytes(data)
        yield f"{number}: {source.codec} in {source.muxer}, {', '.join(done)}", path
        path.unlink()


def measure(count: int, seed: int, *, quick: bool, say: Callable[[str], None], keep: Path | None) -> dict[str, Any]:
    """All kinds of files, JSON-ready.

    Args:
        count: damaged ones.
        seed: of their generator.
        quick: fewer containers, codecs and bombs.
        say: called with a line of progress.
        keep: where bad ones are copied to.
    """
    with (
        tempfile.TemporaryDirectory(prefix="reelkind-files-") as scratch,
        embedded_server([reports.BUNDLES / "lite"], ensembles=[specs.classify_name()]) as server,
    ):
        others = children()
        with (
            ProcessDecoder(1) as decoder,
            Client(server.url, decoder=decoder, num_frames=NUM_FRAMES) as client,
        ):
            reader = Reader(
                client.classify,
                lambda path: decoder.stream(path, rate=STREAM_RATE, size_px=STREAM_SIZE_PX),
                lambda: children() - others,
            )
            return _read_all(reader, client, Path(scratch), count, seed, quick, say, keep)


def _read_all(
    reader: Reader,
    client: Client,
    scratch: Path,
    count: int,
    seed: int,
    quick: bool,
    say: Callable[[str], None],
    keep: Path | None,
) -> dict[str, Any]:
    tallies: dict[str, Tally] = {name: Tally() for name in ("sound", "bombs", "no files", "damaged", "streams")}
    control, control_wrong, num_controls = sorted(reports.SAMPLES.glob("*.mp4"))[0], 0, 0
    right = client.classify(control)
    seeds = list(write_all(scratch / "sound", *((QUICK_CODECS, QUICK_MUXERS) if quick else (None, None))))
    say(f"{len(seeds)} sound videos: {_distinct(seeds, 'muxer')} containers, {_distinct(seeds, 'codec')} codecs")
    readable = []
    for each in seeds:
        outcome = reader.read(each.path)
        tallies["sound"].add(f"{each.codec} in {each.muxer}", outcome)
        readable += [each] if outcome.verdict == ANSWERED else []  # MPEG-PS is written of any codec, and not read
    say(f"sound: {dict(tallies['sound'].counts)}")
    for name in QUICK_BOMBS if quick else BOMBS:
        path = scratch / name.replace(" ", "_")
        BOMBS[name](path)
        tallies["bombs"].add(f"{name}, {path.stat().st_size} bytes", reader.read(path))
        path.unlink()
    for name, path in write_special(scratch / "special").items():
        tallies["no files"].add(name, reader.read(path))
    say(f"bombs: {dict(tallies['bombs'].counts)}; no files: {dict(tallies['no files'].counts)}")
    began = time.monotonic()
    for number, (name, path) in enumerate(damaged(readable, seed, count, scratch)):
        outcome = reader.read(path)
        tallies["damaged"].add(name, outcome)
        outcomes = [outcome]
        if number % STREAM_EVERY == 0:
            outcomes.append(reader.read_stream(path))
            tallies["streams"].add(name, outcomes[-1])
        if keep is not None and any(each.verdict in BAD for each in outcomes):
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, keep)
        if number % CONTROL_EVERY == CONTROL_EVERY - 1:
            found = client.classify(control)
            num_controls += 1
            control_wrong += any(abs(right.scores[name] - found.scores[name]) > TOLERANCE for name in right.scores)
            say(f"{number + 1} damaged after {time.monotonic() - began:.0f} s: {dict(tallies['damaged'].counts)}")
    return {
        "containers": {"written": _distinct(seeds, "muxer"), "answered": _distinct(readable, "muxer")},
        "codecs": {"written": _distinct(seeds, "codec"), "answered": _distinct(readable, "codec")},
        "seed": seed,
        "kinds": {name: tally.report() for name, tally in tallies.items()},
        "controls": {"asked": num_controls, "wrong": control_wrong},
        "limits": {"memory_mib": MEMORY_BYTES >> 20, "seconds": DECODE_TIMEOUT_S},
        "minutes": round((time.monotonic() - began) / 60, 1),
    }


def _distinct(seeds: Sequence[Seed], name: str) -> int:
    return len({getattr(each, name) for each in seeds})


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact; 1 if a file did what none may do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="damaged ones (default: 10000)")
    parser.add_argument("--seed", type=int, default=16, help="of the generator (default: 16)")
    parser.add_argument("--keep", type=Path, help="copy those that crash or hang their decoder to this folder")
    args = reports.parse(parser, "files", argv)
    machine = environment.describe()
    count = 200 if args.quick else args.files
    found = measure(count, args.seed, quick=args.quick, say=reports.say, keep=args.keep)
    reports.write(args.json, "bad files through the way that classify reads them", found, machine, quick=args.quick)
    bad = [each for kind in found["kinds"].values() for each in kind["bad"]]
    for each in bad:
        print(*each, sep=" | ")
    return 1 if bad or found["controls"]["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
