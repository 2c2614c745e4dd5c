"""Processes killed and stopped under load: are answers lost or wrong, and how soon is the server back?

    python -m reelkind.benchmarks.reliability.faults [--answers 2000] [--callers 4] [--quick] [--json FILE]

Callers share one client and classify in a closed loop. Meanwhile the guard, tritonserver and the process of each model
get SIGKILL in turn, then SIGSTOP. A fault is over when another process has the place of the one that was hit and a
client that tries nothing again gets an answer.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.failover import Load
from reelkind.benchmarks.reliability import reports
from reelkind.client import Client, Prediction, ReelkindError
from reelkind.client.transport.retry import RESTART_S
from reelkind.core import specs
from reelkind.deployment.embedded import embedded_server
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer
from reelkind.video.clip import read_clip

NUM_FRAMES = 2
RETRY_S, TIMEOUT_S = RESTART_S, 120.0  # of the client: its default, and a deadline that is not what ends a call
RETURN_S = 120.0
CALM_S = 21.0  # between faults that cost a restart: three within less are taken for a server that cannot live
CALM_ANSWERS = 3  # of each caller between faults: one that only ever met faults would lose what no single fault costs
SIGNALS = {"killed": signal.SIGKILL, "stopped": signal.SIGSTOP}
RESTARTED = ("guard", "tritonserver")


def victims(server: TritonServer) -> dict[str, int]:
    """Names of the processes that can be hit, and an id of each."""
    stubs = {stub.process.pid: f"model {stub.model}" for stub in server.stubs()}
    found: dict[str, int] = {}
    for pid in server.process_ids():
        try:
            command = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        name = stubs.get(pid) or ("tritonserver" if command == "tritonserver" else "guard")
        found.setdefault(name, pid)
    return found


def recover(server: TritonServer, victim: processes.Process, probe: Callable[[], object], began: float) -> float:
    """Seconds since ``began`` until a process is gone and the server answers at the first try.

    Raises:
        TimeoutError: if it does not.
    """
    while time.monotonic() - began < RETURN_S:
        if not processes.is_alive(victim) and server.is_running():
            try:
                probe()
                return round(time.monotonic() - began, 2)
            except ReelkindError:
                pass
        time.sleep(0.05)
    raise TimeoutError(f"no answer within {RETURN_S:g} s")


def measure(answers: int, callers: int, names: Sequence[str] | None, say: Callable[[str], None]) -> dict[str, Any]:
    """All faults in turn, JSON-ready.

    Args:
        answers: at least.
        callers: at once.
        names: of the processes that are hit; all by default.
        say: called with a line of progress.
    """
    faults: list[dict[str, Any]] = []
    with (
        embedded_server([reports.BUNDLES / "lite"], ensembles=[specs.classify_name()]) as server,
        Client(server.url, shared_memory=False, retry_s=RETRY_S, timeout_s=TIMEOUT_S) as client,
        Client(server.url, shared_memory=False, retry_s=0, timeout_s=5) as once,
    ):
        size = client.server_info().frame_size_px
        paths = sorted(reports.SAMPLES.glob("*.mp4"))
        clips = [read_clip(path, num_frames=NUM_FRAMES, size_px=size).frames for path in paths]
        found = [client.classify_frames(clip) for clip in clips]
        right = [np.array(list(each.scores.values())) for each in found if isinstance(each, Prediction)]
        load = Load(client, clips, right)
        plan = [(what, name) for what in SIGNALS for name in sorted(victims(server)) if names is None or name in names]
        with load.run(callers):
            try:
                for number, (what, name) in enumerate(plan):
                    load.wait_for((number + 1) * answers // (len(plan) + 1))
                    victim = processes.read(victims(server)[name])
                    assert victim is not None
                    began, lost = time.monotonic(), len(load.lost)
                    os.kill(victim.pid, SIGNALS[what])
                    if (what, name) == ("stopped", "guard"):  # watches; nobody needs it until the end
                        time.sleep(5)
                        os.kill(victim.pid, signal.SIGCONT)
                        taken = 0.0
                        once.classify_frames(clips[0])
                    else:
                        taken = recover(server, victim, lambda: once.classify_frames(clips[0]), began)
                    meanwhile = len(load.lost) - lost
                    faults.append({"process": name, "what": what, "recovery_s": taken, "lost": meanwhile})
                    say(f"{name} {what}: back after {taken} s; {load.answers} answers, {len(load.lost)} lost")
                    time.sleep(CALM_S if name in RESTARTED else 0)
                    load.wait_for_each(CALM_ANSWERS)
                load.wait_for(answers)
            finally:
                load.stop()
    return {
        "answers": load.answers,
        "callers": callers,
        "lost": dict(Counter(load.lost)),
        "wrong": load.wrong,
        "slowest_answer_s": round(load.slowest_s, 2),
        "client": {"retry_s": RETRY_S, "timeout_s": TIMEOUT_S},
        "faults": faults,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact; 1 if an answer was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=2000, help="at least (default: 2000)")
    parser.add_argument("--callers", type=int, default=4, help="at once (default: 4)")
    args = reports.parse(parser, "faults", argv)
    machine = environment.describe()
    names = ("model backbone_lite", "model head_lite") if args.quick else None
    found = measure(200 if args.quick else args.answers, args.callers, names, reports.say)
    reports.write(args.json, "processes killed and stopped under load", found, machine, quick=args.quick)
    print(f"{found['answers']} answers, {sum(found['lost'].values())} lost, {found['wrong']} wrong")
    return 1 if found["lost"] or found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
