"""Triton's own load generator: found on PATH or fetched into the user's cache, and one load run with it."""

from __future__ import annotations

import csv
import ctypes
import fcntl
import hashlib
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.core.errors import ReelkindError
from reelkind.core.files.server_keys import KEY_HEADER, known_key
from reelkind.core.files.user_cache import user_cache

# The last wheel whose binary runs on glibc 2.35; later ones need 2.38, the latest have none.
REQUIREMENTS = ("tritonclient==2.51.0", "nvidia-cuda-runtime-cu12==12.9.79")
PERCENTILES = (50, 90, 95, 99)
NUM_WINDOWS = 3  # perf_analyzer takes no fewer
TIMEOUT_S = 1800.0  # of one run; the loads here take seconds to a minute

_ATTEMPTS = 4  # at a window, which is doubled each time
_TOO_SHORT = (
    "No valid requests recorded",
    "failed to find the requested model version",
)  # the latter: no statistics yet
_EXECUTABLE = "perf_analyzer"
_BASE64, _CUDA = "libb64.so.0d", "libcudart.so.12"  # what the binary links beside the C++ library
_FINISHED = "finished"  # written last: a folder without it is half made
_FAILED_STATUS = 99
_NUM_REQUESTS = re.compile(r"^\s*Request count: (\d+)", re.MULTILINE)
_VERSION = re.compile(r"Version (\d+(?:\.\d+)+)")

Progress = Callable[[str], None]


class PerfAnalyzerError(ReelkindError):
    """perf_analyzer cannot be had, or a load could not be run; the message says why."""


class WindowTooShortError(PerfAnalyzerError):
    """In a part of the window no request was answered."""


@dataclass(frozen=True)
class Load:
    """What is asked of a model.

    Attributes:
        model: its name on the server.
        concurrency: requests in flight, each followed by the next (closed loop); None for an open loop.
        rate: requests a second, at intervals drawn from an exponential distribution (open loop); None for a closed one.
        batch: videos in a request.
        shared_memory: whether tensors cross by system shared memory instead of the wire.
    """

    model: str
    concurrency: int | None = None
    rate: float | None = None
    batch: int = 1
    shared_memory: bool = False

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("a load is a closed loop (concurrency) or an open one (rate)")

    def arguments(self, intervals: Path) -> list[str]:
        """For perf_analyzer's command line.

        Args:
            intervals: file with what ``arrivals`` gives, for an open loop.
        """
        closed = ["--concurrency-range", str(self.concurrency)]
        opened = ["--request-intervals", str(intervals), "--async"]
        return ["-m", self.model, "-b", str(self.batch), *(closed if self.rate is None else opened)]


def arrivals(rate: float, duration_s: float, seed: int) -> list[int]:
    """Microseconds between requests that come by chance (exponential), and in the mean at this very rate.

    perf_analyzer's own ``--request-distribution poisson`` draws the same few each time, which came at three quarters of
    the rate that was asked for.

    Args:
        rate: requests a second.
        duration_s: until they begin anew.
        seed: of the generator.
    """
    drawn = np.random.default_rng(seed).exponential(size=max(2, math.ceil(rate * duration_s)))
    return [max(1, round(interval)) for interval in drawn / drawn.mean() * 1e6 / rate]


@dataclass(frozen=True)
class Measured:
    """What one run of a load gave, as perf_analyzer reports it.

    Attributes:
        throughput: videos answered a second.
        mean_ms: latency of a request at the client.
        percentiles_ms: percentile -> the same.
        num_requests: that were measured.
    """

    throughput: float
    mean_ms: float
    percentiles_ms: Mapping[int, float]
    num_requests: int


@dataclass(frozen=True)
class PerfAnalyzer:
    """An executable that starts.

    Attributes:
        executable: the binary.
        version: as it says itself, e.g. ``"2.51.0"``.
        library_folder: where libraries lie that the system lacks.
    """

    executable: Path
    version: str
    library_folder: Path | None = None

    @property
    def tool(self) -> str:
        """For a report."""
        return f"{_EXECUTABLE} {self.version}"

    def run(
        self, load: Load, url: str, window_s: float, input_data: Path, output_bytes: int = 2**16, seed: int = 0
    ) -> Measured:
        """Keep the load up and measure what is answered meanwhile.

        Args:
            load: what is asked.
            url: ``host:port`` of the server's gRPC endpoint.
            window_s: how long, in ``NUM_WINDOWS`` equal parts that are put together, whatever they differ by.
            input_data: JSON file of tensors, see ``real_inputs.write``.
            output_bytes: shared memory for an output tensor of one video.
            seed: of the arrivals of an open loop.

        Raises:
            PerfAnalyzerError: with the first reason that it gives.
        """
        part_ms = max(1, round(1000 * window_s / NUM_WINDOWS))
        for attempts_left in reversed(range(_ATTEMPTS)):
            windows = ["--measurement-interval", str(part_ms), "--max-trials", str(NUM_WINDOWS), "-s", "100000"]
            try:
                return self._run(load, url, input_data, output_bytes, windows, arrivals_s=window_s, seed=seed)
            except WindowTooShortError:
                if not attempts_left:
                    raise
                part_ms *= 2
        raise AssertionError("the last attempt returns or raises")

    def warm_up(self, load: Load, url: str, num_requests: int, input_data: Path, output_bytes: int = 2**16) -> Measured:
        """Send so many requests; of what is measured only latencies count. Arguments as those of ``run``."""
        # The throughput is of no use: in this mode perf_analyzer looks once a second whether all have been answered.
        return self._run(load, url, input_data, output_bytes, ["--request-count", str(num_requests)])

    def _run(
        self,
        load: Load,
        url: str,
        input_data: Path,
        output_bytes: int,
        extent: Sequence[str],
        *,
        arrivals_s: float = 60.0,
        seed: int = 0,
    ) -> Measured:
        shared = ["--shared-memory", "system", "--output-shared-memory-size", str(output_bytes)]
        key = known_key(int(url.rpartition(":")[2]))  # of a server of ours on this machine
        shared += [] if key is None else ["-H", f"triton-grpc-protocol-{KEY_HEADER}:{key}"]
        with tempfile.TemporaryDirectory(prefix="reelkind-perf-") as scratch:
            table, intervals = Path(scratch, "table.csv"), Path(scratch, "intervals.txt")
            if load.rate is not None:
                between = arrivals(load.rate, arrivals_s, seed)
                intervals.write_text("".join(f"{microseconds}\n" for microseconds in between), encoding="ascii")
            command = [
                *(str(self.executable), "-u", url, "-i", "grpc", "--input-data", str(input_data)),
                *("-f", str(table), "--verbose-csv", *extent),
                *(shared if load.shared_memory else ()),
                *load.arguments(intervals),
            ]
            try:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                    env=_variables(self.library_folder),
                )
            except subprocess.TimeoutExpired:
                raise PerfAnalyzerError(f"{load.model}: perf_analyzer did not end in {TIMEOUT_S:.0f} s") from None
            if done.returncode or not table.is_file():
                too_short = any(sign in done.stdout for sign in _TOO_SHORT)
                kind = WindowTooShortError if too_short else PerfAnalyzerError
                raise kind(f"{load.model}: {_reason(done.stdout, done.returncode)}")
            return read_report(table.read_text(encoding="utf-8"), done.stdout)


def read_report(table: str, output: str) -> Measured:
    """What perf_analyzer wrote of one load.

    Args:
        table: its CSV file, ``--verbose-csv``.
        output: what it printed, which alone has the number of requests.

    Raises:
        PerfAnalyzerError: if it has measured nothing.
    """
    rows, counted = list(csv.DictReader(table.splitlines())), _NUM_REQUESTS.search(output)
    if not rows or not counted:
        raise PerfAnalyzerError("perf_analyzer reported nothing: the run was too short")
    row = rows[-1]
    latencies = {percentile: float(row[f"p{percentile} latency"]) / 1000 for percentile in PERCENTILES}
    return Measured(float(row["Inferences/Second"]), float(row["Avg latency"]) / 1000, latencies, int(counted[1]))


def find_perf_analyzer(progress: Progress | None = None) -> PerfAnalyzer:
    """The one on PATH (a Triton SDK container's), else the one of the wheel, fetched once into the user's cache.

    Args:
        progress: called with one line at each slow step.

    Raises:
        PerfAnalyzerError: if it cannot be fetched, or a library of the system is missing.
    """
    installed = shutil.which(_EXECUTABLE)
    if installed:
        return _started(Path(installed), None)
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise PerfAnalyzerError(
            f"perf_analyzer is built for Linux on x86-64, this is {platform.system()} on {platform.machine()}: "
            "measure from such a machine with --url"
        )
    folder = _fetched(progress or (lambda line: None))
    return _started(folder / "bin" / _EXECUTABLE, _cuda_folder(folder))


def _started(executable: Path, library_folder: Path | None) -> PerfAnalyzer:
    """Make sure that it starts, and ask its version."""
    done = subprocess.run(
        [str(executable), "--version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=_variables(library_folder),
    )
    found = _VERSION.search(done.stdout)
    if found:
        return PerfAnalyzer(executable, found[1], library_folder)
    if _BASE64 in done.stdout:
        raise PerfAnalyzerError(
            f"perf_analyzer needs the system's {_BASE64}: install it (Debian, Ubuntu: apt-get install libb64-0d)"
        )
    raise PerfAnalyzerError(f"{executable} does not start: {_reason(done.stdout, done.returncode)}")


def _cuda_folder(folder: Path) -> Path | None:
    """Where the CUDA runtime of the wheel lies; None if the system has one, which then fits its driver."""
    try:
        ctypes.CDLL(_CUDA)
    except OSError:
        return folder / "nvidia" / "cuda_runtime" / "lib"
    return None


def _fetched(progress: Progress) -> Path:
    """The folder into which pip has put the wheels."""
    name = hashlib.sha256("\n".join(REQUIREMENTS).encode()).hexdigest()[:12]
    folder = user_cache(f"perf-analyzer-{name}")
    if (folder / _FINISHED).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two calls at a time fetch it once
        if not (folder / _FINISHED).exists():
            progress(f"fetching {', '.join(REQUIREMENTS)} into {folder} (once; about 15 MB)")
            shutil.rmtree(folder, ignore_errors=True)
            _pip_install(folder)
            (folder / _FINISHED).touch()
    return folder


def _pip_install(folder: Path) -> None:
    # Apart from the client's own tritonclient, and without the packages it depends on: only the binary is wanted.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--target", str(folder)]
    quiet = ["--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2", "--timeout", "20"]
    done = subprocess.run(
        [*command, *quiet, *REQUIREMENTS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        errors = [line.removeprefix("ERROR: ") for line in done.stdout.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1] if errors else f"pip ended with status {done.returncode}"
        raise PerfAnalyzerError(f"perf_analyzer cannot be fetched ({', '.join(REQUIREMENTS)}): {reason}")


def _variables(library_folder: Path | None) -> dict[str, str]:
    variables = dict(os.environ)
    if library_folder is not None:
        paths = (str(library_folder), variables.get("LD_LIBRARY_PATH"))
        variables["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    return variables


def _reason(output: str, status: int) -> str:
    """The first line that complains, else the last one there is."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    complaints = [line for line in lines if re.search(r"error|fail|refused|exceeds|no valid", line, re.IGNORECASE)]
    if complaints:
        return complaints[0].removeprefix("error: ")
    return lines[-1] if lines and status == _FAILED_STATUS else f"perf_analyzer ended with status {status}"
