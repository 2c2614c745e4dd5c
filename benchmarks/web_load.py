"""Twenty uploads at once against ``reelkind web``: is one lost, and how long do page and status calls take meanwhile?

    python -m reelkind.benchmarks.web_load [--data DIR]

Starts the application on loopback with the packaged bundles and writes results/web_load.json. Times are those of a
caller on the same machine, connection included; ``server_ms`` are the application's own, from its metrics.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from reelkind.benchmarks import environment
from reelkind.benchmarks.bulk.made_videos import free_box

NUM_UPLOADS = 20
PAUSE_S = 0.05  # between the calls of each of the two who look
TIMEOUT_S = 300.0
RESULT = Path(__file__).with_name("results") / "web_load.json"
_ENDPOINTS = {"page": "pages.index", "status": "jobs.show"}


class Caller:
    """One connection to the application."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port

    def call(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> tuple[int, bytes]:
        """Status and body."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def upload(self, path: Path, number: int) -> dict[str, Any]:
        """A new job, whose content nobody has seen: no features of it are kept."""
        border = uuid4().hex
        head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + free_box(number) + f"\r\n--{border}--\r\n".encode()
        status, answer = self.call("POST", "/api/jobs", body, f"multipart/form-data; boundary={border}")
        if status != 202:
            raise SystemExit(f"an upload was answered {status}: {answer.decode()}")
        return dict(json.loads(answer))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the application's folder (default: a temporary one)")
    args = parser.parse_args(argv)
    about = environment.describe()
    with tempfile.TemporaryDirectory(prefix="reelkind-web-load-") as scratch:
        command = [sys.executable, "-m", "reelkind.cli.main", "web", "--port", "0"]
        command += ["--data", str(args.data or scratch), "--no-prefetch"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                found = measure(process.stdout.readline().strip())
            finally:
                process.send_signal(signal.SIGTERM)
    RESULT.write_text(json.dumps({"environment": about, **found}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=2))
    return 0


def measure(url: str) -> dict[str, Any]:
    """Upload everything at once, and look at page and jobs until all are done."""
    from reelkind import samples

    caller = Caller(url)
    videos = sorted(Path(samples.__file__).parent.glob("*.mp4"))
    caller.call("GET", "/")  # the first call of a process loads its templates
    jobs: list[dict[str, Any]] = []
    over = threading.Event()
    times: dict[str, list[float]] = {"page": [], "status": []}
    threads = [
        threading.Thread(target=lambda number=number, path=path: jobs.append(caller.upload(path, number)))
        for number, path in enumerate(islice(cycle(videos), NUM_UPLOADS))
    ]
    lookers = [threading.Thread(target=_look, args=(caller, kind, jobs, times[kind], over)) for kind in times]
    started = time.monotonic()
    for thread in [*threads, *lookers]:
        thread.start()
    for thread in threads:
        thread.join()
    uploaded_s = time.monotonic() - started
    ended = [_wait(caller, job["id"]) for job in jobs]
    all_s = time.monotonic() - started
    over.set()
    for looker in lookers:
        looker.join()
    _, metrics = caller.call("GET", "/metrics")
    return {
        "uploads": NUM_UPLOADS,
        "done": sum(job["status"] == "done" for job in ended),
        "right": sum(job["name"].startswith(str((job["result"] or {}).get("label"))) for job in ended),
        "positions_told": sorted(job["position"] for job in jobs if job["position"]),
        "uploaded_s": round(uploaded_s, 2),
        "all_answered_s": round(all_s, 2),
        "callers_ms": {kind: _summary(found) for kind, found in times.items()},
        "server_below_200_ms": {kind: _below(metrics.decode(), name) for kind, name in _ENDPOINTS.items()},
    }


def _look(caller: Caller, kind: str, jobs: list[dict[str, Any]], times: list[float], over: threading.Event) -> None:
    """Call again and again as an open page would; each time in milliseconds."""
    while not over.wait(PAUSE_S):
        path = "/" if kind == "page" else f"/api/jobs/{jobs[-1]['id']}" if jobs else "/healthz"
        started = time.perf_counter()
        status, _ = caller.call("GET", path)
        times.append((time.perf_counter() - started) * 1000)
        if status != 200:
            raise SystemExit(f"{path} was answered {status}")


def _wait(caller: Caller, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        job = dict(json.loads(caller.call("GET", f"/api/jobs/{job_id}")[1]))
        if job["status"] not in ("queued", "running") or time.monotonic() > deadline:
            return job
        time.sleep(0.25)


def _summary(times_ms: list[float]) -> dict[str, float]:
    ranks = statistics.quantiles(times_ms, n=100, method="inclusive")
    return {
        "calls": len(times_ms),
        "p50": round(ranks[49], 1),
        "p95": round(ranks[94], 1),
        "max": round(max(times_ms), 1),
    }


def _below(metrics: str, endpoint: str) -> float:
    """Share of an endpoint's requests that the application itself answered within 200 ms."""
    pattern = r'reelkind_web_request_seconds_{}{{endpoint="{}"{}}} (\S+)'
    below = re.search(pattern.format("bucket", re.escape(endpoint), ',le="0\\.2"'), metrics)
    total = re.search(pattern.format("count", re.escape(endpoint), ""), metrics)
    if below is None or total is None:
        return 0.0
    return round(float(below[1]) / float(total[1]), 4)


if __name__ == "__main__":
    sys.exit(main())
