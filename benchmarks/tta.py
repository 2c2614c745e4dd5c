"""What test-time augmentation brings and costs: accuracy and loss on labelled clips, time in the server.

    python -m reelkind.benchmarks.tta --data DATA [--sources clips] [--bundle bundles/lite --bundle bundles/lite2]

Gain: ``reelkind evaluate --tta`` on the validation split, exact McNemar test against no augmentation. Cost: Triton's
own time from a request's arrival to its answer, one caller, the same decoded clips, modes alternating. ``fast`` differs
from ``off`` behind the backbone only, and by less than a busy machine's backbone wavers; so what it adds is measured
there, starting from features.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient

from reelkind.benchmarks import environment
from reelkind.benchmarks.serving_overhead import RESULTS, ROOT, ratio
from reelkind.client import Client
from reelkind.core import bundle as bundles
from reelkind.core.bundle import Bundle
from reelkind.core.specs import ALL_MEMBERS, TTA, classify_name, features_name
from reelkind.core.specs import classify_features_name as from_features_name
from reelkind.deployment.embedded import embedded_server
from reelkind.export.parity.triton_rung import TritonModels
from reelkind.video import clip as video

_HEAD_ROUNDS = 10  # they take milliseconds


def measure_gain(data: Path, sources: Sequence[str], folders: Sequence[Path]) -> dict[str, Any]:
    """Group of members -> mode -> accuracy, loss, and the comparison with none."""
    with tempfile.TemporaryDirectory() as scratch:
        options = ["--data", str(data), "--sources", *sources, "--tta", "--out", scratch]
        command = [sys.executable, "-m", "reelkind", "evaluate", *map(str, folders), *options]
        status = subprocess.run(command, check=False).returncode
        if status:
            raise SystemExit(f"reelkind evaluate ended with status {status}")
        report = json.loads((Path(scratch) / "report.json").read_text(encoding="utf-8"))
    gain = {name: member["tta"] for name, member in report["members"].items()}
    return gain | ({ALL_MEMBERS: report["ensemble"]["tta"]} if len(folders) > 1 else {})


def measure_cost(members: Sequence[Bundle], rounds: int) -> dict[str, Any]:
    """Group of members -> mode -> milliseconds in the server, and the ratio to none."""
    groups = [bundle.name for bundle in members] + ([ALL_MEMBERS] if len(members) > 1 else [])
    names = {
        name(group, tta)
        for group in groups
        for tta in TTA
        for name in (classify_name, features_name, from_features_name)
    }
    with embedded_server([bundle.path() for bundle in members], ensembles=names) as server:
        meter = Meter(server.url)
        found = {group: _costs(meter, group, _clips(server.url, group), rounds) for group in groups}
        meter.close()
    return found


def _clips(url: str, group: str) -> list[np.ndarray]:
    """The samples as a client of this group decodes them."""
    with Client(url, member=group) as client:
        info = client.server_info()
    samples = sorted((ROOT / "samples").glob("*.mp4"))
    return [video.read_clip(path, num_frames=info.num_frames, size_px=info.frame_size_px).frames for path in samples]


class Meter:
    """Asks a server, and Triton how long it took."""

    def __init__(self, url: str) -> None:
        self._models, self._triton = TritonModels(url), InferenceServerClient(url)

    def infer(self, model: str, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of a model."""
        return self._models.infer(model, feeds)

    def alternate(
        self, models: Sequence[str], feeds: Sequence[Mapping[str, np.ndarray]], rounds: int
    ) -> dict[str, list[float]]:
        """Model -> milliseconds a request in the server, of each round."""
        times: dict[str, list[float]] = {model: [] for model in models}
        for number in range(-1, rounds):  # the first is for warming up
            for model in models[:: 1 if number % 2 else -1]:
                before = self._successes(model)
                for feed in feeds:
                    self.infer(model, feed)
                after = self._successes(model)
                if number >= 0:
                    times[model].append((after[1] - before[1]) / (after[0] - before[0]) / 1e6)
        return times

    def _successes(self, model: str) -> tuple[int, int]:
        """Requests answered so far, and nanoseconds spent on them."""
        success = self._triton.get_inference_statistics(model).model_stats[0].inference_stats.success
        return success.count, success.ns

    def close(self) -> None:
        """Give the connections back."""
        self._models.close()
        self._triton.close()


def _costs(meter: Meter, group: str, clips: Sequence[np.ndarray], rounds: int) -> dict[str, Any]:
    print(f"cost of {group}", file=sys.stderr)
    frames = [{"frames": clip[None]} for clip in clips]
    off, full = classify_name(group, "off"), classify_name(group, "full")
    whole = meter.alternate((off, full), frames, rounds)
    features = [meter.infer(features_name(group), feed) for feed in frames]
    heads = tuple(from_features_name(group, tta) for tta in ("off", "fast"))
    behind = meter.alternate(heads, features, rounds * _HEAD_ROUNDS)
    median = statistics.median(whole[off])
    added = statistics.median(fast - plain for plain, fast in zip(behind[heads[0]], behind[heads[1]], strict=True))
    return {
        "off": {"server_ms": round(median, 2), "to_off": 1.0},
        "fast": {
            "server_ms": round(median + added, 2),
            "added_ms": round(added, 2),
            "to_off": round(1 + added / median, 4),
        },
        "full": {"server_ms": round(statistics.median(whole[full]), 2), "to_off": ratio(whole, full, off)["median"]},
    }


def table(gain: dict[str, Any], cost: dict[str, Any]) -> str:
    """Markdown, a row a group and mode."""
    rows = ["| | tta | accuracy (95 %) | right only with / without | McNemar | NLL | server, ms | to off |"]
    rows.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for group, modes in gain.items():
        for tta, found in modes.items():
            low, high = found["interval_95"]["accuracy"]
            against = found.get("against_off")
            won = f"{against['only_b_right']} / {against['only_a_right']}" if against else ""
            change = f" ({found['nll'] - modes['off']['nll']:+.3f})" if against else ""
            cells = (
                f"`{group}`" if tta == "off" else "",
                tta,
                f"{found['accuracy']:.3f} ({low:.2f} .. {high:.2f})",
                won,
                f"p = {against['p_value']:.2g}" if against else "",
                f"{found['nll']:.3f}{change}",
                f"{cost[group][tta]['server_ms']:.0f}",
                f"{cost[group][tta]['to_off']:.3g}",
            )
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled clips, as for `reelkind evaluate`")
    parser.add_argument("--sources", nargs="+", default=["clips"], help="folders of --data (default: clips)")
    parser.add_argument("--bundle", type=Path, action="append", help="again for others (default: lite and lite2)")
    parser.add_argument("--rounds", type=int, default=9, help="of every mode (default: 9)")
    parser.add_argument("--json", type=Path, default=RESULTS / "tta.json")
    args = parser.parse_args(argv)

    folders = args.bundle or [ROOT / "bundles" / "lite", ROOT / "bundles" / "lite2"]
    members = [bundles.load(folder) for folder in folders]
    machine = environment.describe()
    gain, cost = measure_gain(args.data, args.sources, folders), measure_cost(members, args.rounds)
    report = {
        "what": "test-time augmentation: gain on the validation clips, time of a clip in the server",
        "weights_sha256": {bundle.name: bundles.weights_hash(bundle) for bundle in members},
        "gain": gain,
        "cost": cost,
        "machine": machine,
    }
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(gain, cost))
    return 0


if __name__ == "__main__":
    sys.exit(main())
