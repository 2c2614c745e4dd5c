"""What it costs to have a file here, by where it is: CPU time of reading and hashing, with no network between."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from reelkind.bulk.fetching import fetched
from reelkind.serving.ports import LOOPBACK, claim

NUM_BYTES = 256 << 20
REPEATS = 3


def measure(folder: Path) -> dict[str, float]:
    """CPU seconds a gigabyte of this process, the least of some repeats.

    Args:
        folder: where a file of random bytes is made and served by HTTP from.
    """
    path = folder / "large.bin"
    path.write_bytes(os.urandom(NUM_BYTES))
    port = claim(LOOPBACK, 0, 0, 0).http_url.rpartition(":")[2]
    server = [sys.executable, "-m", "http.server", "--bind", LOOPBACK, "--directory", str(folder), port]
    with subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            address = f"http://{LOOPBACK}:{port}/{path.name}"
            _await(address)
            return {"local": _cpu_s_per_gb(str(path)), "http": _cpu_s_per_gb(address)}
        finally:
            process.terminate()


def _cpu_s_per_gb(uri: str) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        with fetched(uri, "/"):
            times.append(time.process_time() - began)
    return round(min(times) / NUM_BYTES * 1e9, 2)


def _await(address: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(URLError):
            urlopen(address, timeout=5).close()  # nosec B310 # of this machine
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing serves {address}")
