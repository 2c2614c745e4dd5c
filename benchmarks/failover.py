"""Two servers behind one client, one of them killed under load: what is lost, what is wrong, what it costs.

    python -m reelkind.benchmarks.failover [--answers 2000] [--callers 8] [--quick]

Callers share one client and classify the same short clips in a closed loop. First one server alone and both are timed
in alternating rounds; then, of the answers asked for, a fifth is given, the tritonserver of the first server is killed
(SIGKILL), and the load goes on until its supervisor has brought it back and its slow start is over. Every answer is
compared with the one that the first server gave alone before. Both servers share this machine's processors: the ratio
of throughputs says what a second process costs or brings here, not what a second card brings.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from reelkind.benchmarks import environment
from reelkind.benchmarks.serving_overhead import RESULTS, ROOT, clips_per_second
from reelkind.client import Client, Prediction, ReelkindError
from reelkind.client.transport.rotation import SLOW_START_S
from reelkind.core import bundle as bundles
from reelkind.core import specs
from reelkind.deployment.embedded import embedded_server
from reelkind.serving.server import TritonServer
from reelkind.video import clip as video

TOLERANCE = 1e-4  # of a probability: batches of other sizes add up in another order
RETURN_S = 90.0
SAMPLE_S = 0.5


class Load:
    """Callers that ask until they are told to stop, and what came of it.

    Args:
        client: of all servers.
        clips: uint8 [T, S, S, 3] each.
        right: probabilities [K] of each clip.
    """

    def __init__(self, client: Client, clips: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> None:
        self._client, self._clips, self._right = client, clips, right
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.answers, self.wrong, self.lost, self.slowest_s = 0, 0, list[str](), 0.0
        self._by_caller: Counter[int] = Counter()

    def run(self, callers: int) -> ThreadPoolExecutor:
        """Start them; leaving the pool's ``with`` block waits for their ends."""
        pool = ThreadPoolExecutor(callers)
        for caller in range(callers):
            self._by_caller[caller] = 0
            pool.submit(self._call, caller)
        return pool

    def stop(self) -> None:
        """No more requests; those under way are answered."""
        self._stop.set()

    def wait_for(self, answers: int) -> None:
        """Until so many have come."""
        while self.answers + len(self.lost) < answers:
            time.sleep(0.01)

    def wait_for_each(self, answers: int) -> None:
        """Until every caller has had so many more, right, wrong or none."""
        wanted = {caller: had + answers for caller, had in self._by_caller.items()}
        while any(self._by_caller[caller] < number for caller, number in wanted.items()):
            time.sleep(0.01)

    def _call(self, caller: int) -> None:
        number = caller
        while not self._stop.is_set():
            which, began, error = number % len(self._clips), time.monotonic(), ""
            number += 1
            try:
                found = self._client.classify_frames(self._clips[which])
                assert isinstance(found, Prediction)
                wrong = np.abs(_probabilities(found) - self._right[which]).max() > TOLERANCE
            except ReelkindError as failure:
                error, wrong = f"{type(failure).__name__}: {failure}", False
            with self._lock:
                self._by_caller[caller] += 1
                self.answers += not error
                self.wrong += bool(wrong)
                self.lost += [error] if error else []
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def measure(
    bundle_folder: Path, *, answers: int, callers: int, rounds: int, num_clips: int, num_frames: int
) -> dict[str, Any]:
    """Both parts, JSON-ready.

    Args:
        bundle_folder: what both servers serve.
        answers: of the fail-over, at least.
        callers: at once.
        rounds: of throughput, each of one server and of both.
        num_clips: of a round.
        num_frames: of a clip.
    """
    bundle = bundles.load(bundle_folder)
    size = bundle.backbone.frame_size_px
    samples = sorted((ROOT / "samples").glob("*.mp4"))
    clips = [video.read_clip(path, num_frames=num_frames, size_px=size).frames for path in samples]
    machine = environment.describe()
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(embedded_server([bundle_folder], ensembles=[specs.classify_name()])) for _ in range(2)
        )
        alone = stack.enter_context(Client(first.url, shared_memory=False, timeout_s=60))
        both = stack.enter_context(Client(f"{first.url},{second.url}", timeout_s=60))
        right = [_probabilities(alone.classify_frames(clip)) for clip in clips]
        rates: dict[str, list[float]] = {"one": [], "both": []}
        for number in range(rounds):
            for side, client in (("one", alone), ("both", both)) if number % 2 else (("both", both), ("one", alone)):
                rates[side].append(clips_per_second(client.classify_frames, clips, callers, num_clips))
        load = Load(both, clips, right)
        with load.run(callers):
            try:
                load.wait_for(answers // 5)
                kill(first)
                shares = _shares(first, second)
                load.wait_for(answers)
            finally:
                load.stop()
    return {
        "what": "two servers behind one client, the first killed under load",
        "bundle": bundle.name,
        "clip": [num_frames, size, size, 3],
        "callers": callers,
        "throughput": {side: [round(rate, 2) for rate in found] for side, found in rates.items()},
        "both_to_one": round(statistics.median(rates["both"]) / statistics.median(rates["one"]), 3) if rounds else None,
        "answers": load.answers,
        "lost": load.lost,
        "wrong": load.wrong,
        "slowest_answer_s": round(load.slowest_s, 2),
        "share_of_the_returned": shares,
        "machine": machine,
    }


def kill(server: TritonServer) -> None:
    """End its tritonserver as the kernel would; its supervisor lives."""
    (pid,) = [pid for pid in server.process_ids() if Path(f"/proc/{pid}/comm").read_text().strip() == "tritonserver"]
    os.kill(pid, signal.SIGKILL)


def _shares(returned: TritonServer, other: TritonServer) -> dict[str, float]:
    """Share of the answers that the returned server gives, by seconds since it gave its first, which counts, too."""
    counts: list[tuple[float, int, int]] = []
    deadline = time.monotonic() + RETURN_S
    back: float | None = None
    with InferenceServerClient(returned.url) as one, InferenceServerClient(other.url) as two:
        while back is None or time.monotonic() - back < SLOW_START_S + 4:
            if back is None and time.monotonic() > deadline:
                raise TimeoutError(f"the killed server gave no answer within {RETURN_S:g} s")
            given, given_by_other = _given(one), _given(two)
            now = time.monotonic()
            if given and back is None:
                back = now
            if back is None:
                counts = [(0.0, given, given_by_other)]  # what the other has given until then is nobody's share
            else:
                counts.append((now - back, given, given_by_other))
            time.sleep(SAMPLE_S)
    parts: dict[str, Counter[str]] = {name: Counter() for name in ("first 3 s", "after the slow start")}
    for (_, one_before, two_before), (at, one_now, two_now) in pairwise(counts):
        name = "first 3 s" if at < 3 else "after the slow start" if at > SLOW_START_S else ""
        if name:
            parts[name] += Counter(one=one_now - one_before, two=two_now - two_before)
    return {name: round(found["one"] / max(1, found.total()), 3) for name, found in parts.items()}


def _given(server: Any) -> int:
    """Answers of its ensemble since it started; 0 while it is away."""
    try:
        statistics_of = server.get_inference_statistics(specs.classify_name(), client_timeout=1.0)
    except InferenceServerException:
        return 0
    return sum(int(model.inference_stats.success.count) for model in statistics_of.model_stats)


def _probabilities(found: Any) -> np.ndarray:
    return np.array(list(found.scores.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite")
    parser.add_argument("--answers", type=int, default=2000, help="at least (default: 2000)")
    parser.add_argument("--callers", type=int, default=8, help="at once (default: 8)")
    parser.add_argument("--rounds", type=int, default=9, help="of throughput, each side (default: 9)")
    parser.add_argument("--quick", action="store_true", help="300 answers, one round: to see whether it works")
    parser.add_argument("--json", type=Path, default=RESULTS / "failover_cpu.json")
    args = parser.parse_args(argv)
    report = measure(
        args.bundle,
        answers=300 if args.quick else args.answers,
        callers=args.callers,
        rounds=1 if args.quick else args.rounds,
        num_clips=48,
        num_frames=2,
    )
    if not args.quick:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{report['answers']} answers, {len(report['lost'])} lost, {report['wrong']} wrong")
    print(f"slowest answer {report['slowest_answer_s']} s; both servers to one: {report['both_to_one']}")
    print(f"share of the server that came back: {report['share_of_the_returned']}")
    return 1 if report["lost"] or report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
