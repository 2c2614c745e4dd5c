"""Mixed requests for half an hour: do memory, descriptors and shared memory of the server's processes stay the same?

    python -m reelkind.benchmarks.reliability.soak [--minutes 30] [--quick] [--json FILE]

Clips of many lengths and sizes through shared memory, gRPC and HTTP, features and back, and bad messages by gRPC, one
after the other in two threads. After a third of the time, which counts as warm-up, growth is the least-squares line's
from there to the end, in per cent of where it begins. The picture beside the JSON file has every process.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.reliability import bad_requests, reports
from reelkind.benchmarks.reliability.faults import victims
from reelkind.benchmarks.reliability.messages import Sender
from reelkind.benchmarks.timelines.long_videos import resident_mb
from reelkind.client import Client
from reelkind.core import specs
from reelkind.deployment.embedded import embedded_server
from reelkind.serving.server import TritonServer

THREADS = 2
LENGTHS, SIZES_PX = (1, 2, 4, 8, 16, 33), (32, 64, 224)
WARM_UP = 1 / 3  # of the time
Samples = dict[str, list[float]]
"""Process -> MB or descriptors, one number a look."""


def look(server: TritonServer, memory: Samples, descriptors: Samples) -> None:
    """Add what each process takes now, and what server and client, both of this process, have in /dev/shm."""
    for name, pid in victims(server).items():
        memory.setdefault(name, []).append(round(resident_mb(pid), 1))
        descriptors.setdefault(name, []).append(len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208
    files = [path.stat() for path in Path("/dev/shm").glob(f"reelkind[-_]{os.getpid()}[-_]*") if path.is_file()]
    memory.setdefault("/dev/shm", []).append(round(sum(each.st_blocks * 512 for each in files) / 1e6, 1))
    descriptors.setdefault("/dev/shm", []).append(len(files))


def growth_percent(values: Sequence[float]) -> float | None:
    """How much the line through the values after the warm-up rises over that time; None of fewer than three."""
    settled = values[int(len(values) * WARM_UP) :]
    if len(settled) < 3:
        return None
    slope, start = np.polyfit(np.arange(len(settled)), settled, 1)
    return round(100 * float(slope) * (len(settled) - 1) / float(start), 2) if start > 0 else 0.0


def work(server: TritonServer, number: int, ended: threading.Event, errors: list[str]) -> None:
    """Requests of all kinds until told to end; errors of sound ones are kept."""
    rng = np.random.default_rng([16, number])
    samples = sorted(reports.SAMPLES.glob("*.mp4"))
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(server.url)),
            stack.enter_context(Client(server.url, shared_memory=False)),
            stack.enter_context(Client(server.http_url, shared_memory=False)),
        ]
        sender = stack.enter_context(closing(Sender(server)))
        while not ended.is_set():
            client = clients[int(rng.integers(len(clients)))]
            size = int(rng.choice(SIZES_PX))
            frames = rng.integers(0, 256, (int(rng.choice(LENGTHS)), size, size, 3), np.uint8)
            try:
                if rng.random() < 0.8:
                    client.classify_frames(frames)
                else:
                    client.classify_features(client.extract_features(samples[int(rng.integers(len(samples)))]))
                for kind in (bad_requests.axes, bad_requests.contents, bad_requests.protobuf):
                    sender.send(kind(rng))
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")


def measure(minutes: float, interval_s: float, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, JSON-ready.

    Args:
        minutes: of work.
        interval_s: between two looks.
        say: called with a line of progress.
    """
    memory: Samples = {}
    descriptors: Samples = {}
    errors: list[str] = []
    ended = threading.Event()
    names = (specs.classify_name(), specs.features_name(), specs.classify_features_name())
    with embedded_server([reports.BUNDLES / "lite"], ensembles=list(names)) as server:
        before = victims(server)
        threads = [threading.Thread(target=work, args=(server, number, ended, errors)) for number in range(THREADS)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while time.monotonic() - began < minutes * 60:
            time.sleep(interval_s)
            look(server, memory, descriptors)
            if len(memory["/dev/shm"]) % 12 == 0:
                say(f"{(time.monotonic() - began) / 60:.1f} minutes: { ({name: v[-1] for name, v in memory.items()}) }")
        ended.set()
        for thread in threads:
            thread.join()
        restarted = sorted(name for name, pid in before.items() if victims(server).get(name) != pid)
    return {
        "minutes": minutes,
        "interval_s": interval_s,
        "warm_up_minutes": round(minutes * WARM_UP, 1),
        "restarted": restarted,
        "errors": errors[:20],
        "memory_growth_percent": {name: growth_percent(values) for name, values in memory.items()},
        "descriptor_growth_percent": {name: growth_percent(values) for name, values in descriptors.items()},
        "memory_mb": memory,
        "descriptors": descriptors,
    }


def draw(path: Path, memory: Mapping[str, Sequence[float]], interval_s: float) -> None:
    """Memory of each process over time, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, values in sorted(memory.items()):
        axes.plot([(number + 1) * interval_s / 60 for number in range(len(values))], values, label=name)
    axes.set(xlabel="minutes", ylabel="resident MB", ylim=(0, None))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact and the picture; 1 if a process ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="(default: 30)")
    args = reports.parse(parser, "soak", argv)
    machine = environment.describe()
    found = measure(0.5 if args.quick else args.minutes, 1.0 if args.quick else 5.0, reports.say)
    reports.write(args.json, "mixed requests for a long time", found, machine, quick=args.quick)
    draw(args.json.with_suffix(".png"), found["memory_mb"], found["interval_s"])
    print("growth after warm-up, per cent:", found["memory_growth_percent"])
    return 1 if found["restarted"] else 0


if __name__ == "__main__":
    sys.exit(main())
