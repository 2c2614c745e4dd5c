"""Four times what a server can do, for a minute: is it restarted, how fast are refusals, when is it itself again?

    python -m reelkind.benchmarks.reliability.overload [--seconds 60] [--times 4] [--quick] [--json FILE]

The capacity is that of a closed loop. Then requests come at a rate, whatever becomes of them (an open loop), each with
a deadline; a client that tries nothing again asks meanwhile. Afterwards the closed loop is measured again, by halves of
a second, until it reaches nine tenths of the capacity.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from reelkind.benchmarks import environment
from reelkind.benchmarks.reliability import bad_requests, reports
from reelkind.benchmarks.reliability.caller import Caller, percentile_ms
from reelkind.benchmarks.reliability.messages import identities
from reelkind.core import specs, tensors
from reelkind.deployment.embedded import embedded_server

SHAPE = (1, 16, 32, 32, 3)  # much to compute, little to carry: this process must keep its rate
DEADLINE_S = 20.0  # of a request of the open loop: 64 may wait, at some seven a second on two cores
CALLERS = 16  # of the closed loop
BIN_S, BACK = 0.5, 0.9
BACK_WITHIN_S = 30.0


class Requests:
    """Sends the same request again and again, and counts what comes back.

    Args:
        url: of the server's gRPC port.
    """

    def __init__(self, url: str) -> None:
        frames = np.random.default_rng(16).integers(0, 256, SHAPE, np.uint8).tobytes()
        request = service_pb2.ModelInferRequest(model_name=specs.classify_name(), raw_input_contents=[frames])
        request.inputs.add(name=tensors.FRAMES.name, datatype="UINT8", shape=SHAPE)
        self._content = request.SerializeToString()
        self._channel = grpc.insecure_channel(url)
        self._call = self._channel.unary_unary(bad_requests.INFER)
        self._lock = threading.Lock()
        self.ended: list[tuple[float, float, str]] = []  # (when, seconds taken, status)

    def send(self, then: Callable[[], None] = lambda: None) -> Any:
        """One more, without waiting for it."""
        began = time.monotonic()
        future = self._call.future(self._content, timeout=DEADLINE_S)

        def note(done: Any) -> None:
            now = time.monotonic()
            with self._lock:
                self.ended.append((now, now - began, str(done.code().name)))
            then()

        future.add_done_callback(note)
        return future

    def closed_loop(self, seconds: float) -> float:
        """Answers a second of ``CALLERS`` callers."""
        start = len(self.ended)
        began, ended = time.monotonic(), threading.Event()

        def again() -> None:
            if not ended.is_set():
                self.send(again)

        for _ in range(CALLERS):
            self.send(again)
        time.sleep(seconds)
        ended.set()
        until = time.monotonic()
        return sum(status == "OK" for at, _, status in self.ended[start:] if at < until) / (until - began)

    def open_loop(self, rate: float, seconds: float) -> int:
        """So many a second; returns how many were sent, when the last has ended."""
        began, futures = time.monotonic(), []
        while (now := time.monotonic()) < began + seconds:
            futures.append(self.send())
            time.sleep(max(0.0, began + len(futures) / rate - now))
        for future in futures:
            future.exception()
        return len(futures)

    def close(self) -> None:
        """Give the connection back."""
        self._channel.close()


def _p99_ms(times_s: Sequence[float]) -> float | None:
    return round(float(np.percentile(times_s, 99)) * 1e3, 1) if times_s else None


def measure(seconds: float, times: float, capacity_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, JSON-ready.

    Args:
        seconds: of overload.
        times: the capacity.
        capacity_s: how long the capacity is measured.
        say: called with a line of progress.
    """
    with (
        embedded_server([reports.BUNDLES / "lite"], ensembles=[specs.classify_name()]) as server,
        Caller(server.url, pause_s=0.2, retry_s=0.0) as caller,
    ):
        requests = Requests(server.url)
        requests.closed_loop(3)  # warm
        capacity = requests.closed_loop(capacity_s)
        time.sleep(3)
        say(f"capacity {capacity:.1f} answers a second")
        before, start, first = identities(server), time.monotonic(), len(requests.ended)
        sent = requests.open_loop(times * capacity, seconds)
        found = requests.ended[first:]
        overload = caller.between(start, start + seconds)
        after = identities(server)
        statuses = Counter(status for _, _, status in found)
        say(f"{sent} requests in {seconds:g} s: {dict(statuses)}")
        began, back = time.monotonic(), None
        while back is None and time.monotonic() - began < BACK_WITHIN_S:
            if requests.closed_loop(BIN_S) >= BACK * capacity:
                back = round(time.monotonic() - began, 1)
        caller.stop()
        requests.close()
    refused = [taken for _, taken, status in found if status == "UNAVAILABLE"]
    busy = [answer for answer in overload if answer.error.startswith("ServerBusy")]
    return {
        "seconds": seconds,
        "times": times,
        "capacity": round(capacity, 1),
        "sent": sent,
        "statuses": dict(statuses),
        "restarted": sorted(name for name, pids in before.items() if after.get(name) != pids),
        "refusals_p99_ms": _p99_ms(refused),
        "accepted_within_deadline": statuses["OK"],
        "accepted_too_late": statuses["DEADLINE_EXCEEDED"],
        "deadline_s": DEADLINE_S,
        "client": {
            "calls": len(overload),
            "refused": len(busy),
            "refusals_p99_ms": _p99_ms([answer.taken_s for answer in busy]),
            "answers_p99_ms": percentile_ms(overload, 99),
            "other_errors": [each.error for each in overload if each.error and each not in busy][:10],
        },
        "back_after_s": back,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact; 1 if a process ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload (default: 60)")
    parser.add_argument("--times", type=float, default=4.0, help="the capacity (default: 4)")
    args = reports.parse(parser, "overload", argv)
    machine = environment.describe()
    found = measure(8 if args.quick else args.seconds, args.times, 4 if args.quick else 15, reports.say)
    reports.write(args.json, "four times the capacity, open loop", found, machine, quick=args.quick)
    print({name: value for name, value in found.items() if name != "statuses"})
    return 1 if found["restarted"] else 0


if __name__ == "__main__":
    sys.exit(main())
