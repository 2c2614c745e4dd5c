"""What it costs to classify a video again: from the video, from the cache of features, from a features file.

    python -m reelkind.benchmarks.features_speed [VIDEO_OR_FOLDER ...] [--rounds 9]

All three are whole calls of ``Client.classify`` with a path, to an embedded server of the packaged bundle on this
machine. From the video: decoding (in this process), preprocessing, backbone and head. From the cache: looking up the
file's hash, reading and checking the entry, head. From a features file: reading and checking it, head. Rounds
alternate; a file's ratio is that of its medians, the verdict the median over the files.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from reelkind.benchmarks import environment
from reelkind.client import Client, FeatureCache, Prediction
from reelkind.core import specs
from reelkind.core.files import features_files
from reelkind.deployment.embedded import embedded_server

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MODELS = (specs.classify_name(), specs.features_name(), specs.classify_features_name())


def measure(path: Path, client: Client, caching: Client, rounds: int, scratch: Path) -> dict[str, object]:
    """Medians over the rounds, milliseconds."""
    kept = scratch / (path.name + features_files.SUFFIX)
    features_files.save(client.extract_features(path), kept)
    expected = caching.classify(path).scores
    ways = {"video": (client, path), "cache": (caching, path), "file": (client, kept)}
    times_ms: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(rounds):
        for way in list(ways)[:: 1 if i % 2 else -1]:
            asked, what = ways[way]
            began = time.perf_counter()
            answer: Prediction = asked.classify(what)
            times_ms[way].append((time.perf_counter() - began) * 1000)
            if answer.scores != expected or answer.from_cache != (way == "cache"):
                raise SystemExit(f"{path}: another answer from the {way}")
    medians = {way: round(statistics.median(values), 2) for way, values in times_ms.items()}
    print(f"{path.name:40} " + "  ".join(f"{way} {value:7.1f} ms" for way, value in medians.items()), file=sys.stderr)
    return {"file": path.name, "num_bytes": path.stat().st_size, "median_ms": medians}


def ratios(files: Sequence[dict[str, object]], way: str) -> dict[str, float]:
    """How much quicker than from the video, over the files."""
    found = []
    for file in files:
        medians = file["median_ms"]
        assert isinstance(medians, dict)
        found.append(medians["video"] / medians[way])
    return {name: round(value, 1) for name, value in (("median", statistics.median(found)), ("least", min(found)))}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="videos or folders of them (default: the samples)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of every way (default: 9)")
    parser.add_argument("--json", type=Path, default=RESULTS / "features_speed_cpu.json")
    args = parser.parse_args(argv)

    named = args.paths or [ROOT / "samples"]
    paths = [file for path in named for file in (sorted(path.rglob("*.mp4")) if path.is_dir() else [path])]
    machine = environment.describe()
    with (
        tempfile.TemporaryDirectory(prefix="reelkind-features-") as scratch,
        embedded_server(ensembles=MODELS) as server,
        Client(server.url) as client,
        Client(server.url, cache=FeatureCache(Path(scratch, "cache"))) as caching,
    ):
        files = [measure(path, client, caching, args.rounds, Path(scratch)) for path in paths]
        info = client.server_info()
    report = {
        "what": "milliseconds of Client.classify(path), served on the same machine, and how much quicker from features",
        "members": info.model.members,
        "weights_sha256": info.model.weights,
        "from_cache": ratios(files, "cache"),
        "from_features_file": ratios(files, "file"),
        "files": files,
        "machine": machine,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"from cache: {report['from_cache']}; from a features file: {report['from_features_file']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
