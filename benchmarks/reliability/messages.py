"""Bad messages to a running server: does a process end, and what do other callers feel of it?

    python -m reelkind.benchmarks.reliability.messages [--messages 10000] [--seed 16] [--rate 50] [--quick]

Messages of `bad_requests.py`, gRPC and HTTP, at a rate, as another machine sends them: without the server's key. Those
that once ended a process of a model are among them. A well-behaved caller in a process of its own asks meanwhile, and
before and after, when it is quiet. In a last part, sound requests of the same size come at the rate at which bad ones
were answered: what the mere work costs the caller.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import grpc
import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.reliability import bad_requests, reports
from reelkind.benchmarks.reliability.bad_requests import Message
from reelkind.benchmarks.reliability.caller import Caller, percentile_ms
from reelkind.core import specs
from reelkind.deployment.embedded import embedded_server
from reelkind.serving.options import ServerOptions
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer

SENDERS = 4
TIMEOUT_S = 20.0  # for the server to say something
PATIENCE_S = 0.3  # of a sender of HTTP whose message promises more than it holds
PAUSE_S = 0.05  # of the well-behaved caller
KILLERS_EVERY = 100
ANSWERED, HUNG, CUT, WAITED = "answered", "no answer within 20 s", "connection closed", "waits for the rest"
_INTERNALS = re.compile(r'Traceback|File "|/model\.py|/site-packages/')  # what an error must not show


class Sender:
    """Sends messages and says what came of each: a status, or one of the constants above.

    Args:
        server: whom to.
    """

    def __init__(self, server: TritonServer) -> None:
        self._channel = grpc.insecure_channel(server.url)
        self._http = urlsplit(server.http_url)
        self.internals: set[str] = set()  # errors that show how the server is made

    def send(self, message: Message) -> str:
        """One message."""
        return self._by_grpc(message) if message.wire == "grpc" else self._by_http(message)

    def close(self) -> None:
        """Give the connection back."""
        self._channel.close()

    def _by_grpc(self, message: Message) -> str:
        call = self._channel.unary_unary(message.method)  # bytes to bytes
        try:
            call(message.content, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            self._look_at(str(error.details()))
            return HUNG if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else str(error.code().name)
        return ANSWERED

    def _by_http(self, message: Message) -> str:
        patient = message.kind != "framing"  # whose lengths may promise more than there is
        try:
            with socket.create_connection((self._http.hostname, self._http.port), timeout=TIMEOUT_S) as connection:
                connection.sendall(message.content)
                connection.settimeout(TIMEOUT_S if patient else PATIENCE_S)
                answer = connection.recv(1 << 16)
        except TimeoutError:
            return HUNG if patient else WAITED
        except OSError:
            return CUT
        self._look_at(answer.decode(errors="replace"))
        status = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
        if status is None:
            return CUT
        return ANSWERED if status[1] == b"200" else f"HTTP {status[1].decode()}"

    def _look_at(self, text: str) -> None:
        if _INTERNALS.search(text):
            self.internals.add(text[:500])


def send_all(
    sender: Sender, messages: Sequence[Message], rate: float, say: Callable[[str], None]
) -> Counter[tuple[str, str]]:
    """Send messages by several threads, no faster than at a rate; how often each (kind, outcome) came.

    Args:
        sender: to the server.
        messages: in order.
        rate: messages a second.
        say: called with a line of progress.
    """
    found: Counter[tuple[str, str]] = Counter()
    lock, began = threading.Lock(), time.monotonic()

    def send(numbered: tuple[int, Message]) -> None:
        number, message = numbered
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        outcome = sender.send(message)
        with lock:
            found[message.kind, outcome] += 1
            if found.total() % 1000 == 0:
                say(f"{found.total()} messages after {time.monotonic() - began:.0f} s")

    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send, enumerate(messages)))
    return found


def draw(seed: int, count: int, wire: str = "both") -> list[Message]:
    """So many messages over ``"grpc"``, ``"http"`` or both, a known killer after each hundred."""
    killers = [each for each in bad_requests.known_killers() if wire in ("both", each.wire)]
    kinds = [kind for kind in bad_requests.KINDS if wire in ("both", bad_requests.WIRES[kind.__name__])]
    return [
        killers[number // KILLERS_EVERY % len(killers)]
        if number % KILLERS_EVERY == KILLERS_EVERY - 1
        else bad_requests.message(seed, number, kinds)
        for number in range(count)
    ]


def identities(server: TritonServer) -> dict[str, list[int]]:
    """Names of the server's processes, and their ids: a process that came back has another."""
    stubs = {stub.process.pid: stub.model for stub in server.stubs()}
    found: dict[str, list[int]] = {}
    for pid in server.process_ids():
        process = processes.read(pid)
        if process is not None:
            found.setdefault(stubs.get(pid, "guard or tritonserver"), []).append(pid)
    return {name: sorted(pids) for name, pids in found.items()}


def measure(
    count: int, seed: int, rate: float, quiet_s: float, wire: str = "both", say: Callable[[str], None] = reports.say
) -> dict[str, Any]:
    """Everything, JSON-ready.

    Args:
        count: messages.
        seed: of their generator.
        rate: messages a second.
        quiet_s: how long the caller is measured alone, before and after.
        wire: ``"grpc"``, ``"http"`` or ``"both"``.
        say: called with a line of progress.
    """
    messages = draw(seed, count, wire)
    with (
        embedded_server(
            [reports.BUNDLES / "lite"], ensembles=list(_ENSEMBLES), options=ServerOptions(open_http=False)
        ) as server,
        Caller(server.url, pause_s=PAUSE_S) as caller,
        contextlib.closing(Sender(server)) as sender,
    ):
        time.sleep(2)  # the first calls warm up
        before, marks = identities(server), [time.monotonic()]

        def mark(what: str) -> None:
            marks.append(time.monotonic())
            say(f"{what}: {marks[-1] - marks[-2]:.0f} s, p99 {percentile_ms(caller.between(*marks[-2:]), 99)} ms")

        time.sleep(quiet_s)
        mark("quiet")
        found = send_all(sender, messages, rate, say)
        mark("bad messages")
        after = identities(server)
        time.sleep(quiet_s)
        mark("quiet")
        answered = sum(number for (_, outcome), number in found.items() if outcome == ANSWERED)
        work_rate = rate * answered / count
        rng = np.random.default_rng(seed)
        sound = [Message("grpc", bad_requests.INFER, bad_requests.good_request(rng).SerializeToString(), "sound")]
        send_all(sender, sound * int(work_rate * quiet_s), work_rate, say)
        mark("as many sound messages as bad ones were answered")
        caller.stop()
        parts = [caller.between(start, end) for start, end in pairwise(marks)]
    quiet = [*parts[0], *parts[2]]
    kinds: dict[str, dict[str, int]] = {}
    for (kind, outcome), number in sorted(found.items()):
        kinds.setdefault(kind, {})[outcome] = number
    p99 = {
        name: percentile_ms(answers, 99)
        for name, answers in (("quiet", quiet), ("bad messages", parts[1]), ("sound messages", parts[3]))
    }
    return {
        "messages": count,
        "wire": wire,
        "seed": seed,
        "rate": rate,
        "minutes": round((marks[2] - marks[1]) / 60, 1),
        "kinds": kinds,
        "processes_ended": sorted(name for name, pids in before.items() if after.get(name) != pids),
        "processes": sum(map(len, before.values())),
        "hung": sum(number for (_, outcome), number in found.items() if outcome == HUNG),
        "answered": answered,
        "errors_that_show_internals": sorted(sender.internals)[:20],
        "caller": {
            "answers": len(parts[1]),
            "errors": [answer.error for answer in parts[1] if answer.error],
            "wrong": sum(answer.wrong for answer in parts[1]),
            "p50_ms": {"quiet": percentile_ms(quiet, 50), "bad messages": percentile_ms(parts[1], 50)},
            "p99_ms": p99,
            "p99_to_quiet": _ratio(p99["bad messages"], p99["quiet"]),
            "slowest_ms": percentile_ms(parts[1], 100),
        },
    }


_ENSEMBLES = (specs.classify_name(), specs.features_name(), specs.classify_features_name())


def _ratio(value: float | None, base: float | None) -> float | None:
    return round(value / base, 2) if value and base else None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact; 1 if a process ended, or an answer of the caller was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10_000, help="(default: 10000)")
    parser.add_argument("--seed", type=int, default=16, help="of the generator (default: 16)")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second (default: 50)")
    parser.add_argument("--wire", choices=("grpc", "http", "both"), default="both", help="(default: both)")
    args = reports.parse(parser, "messages", argv)
    machine = environment.describe()
    count, quiet_s = (300, 5) if args.quick else (args.messages, 30)
    found = measure(count, args.seed, args.rate, quiet_s, args.wire)
    reports.write(args.json, "bad messages to a running server", found, machine, quick=args.quick)
    caller = found["caller"]
    print(f"{found['messages']} messages: ended {found['processes_ended'] or 'no process'}, {found['hung']} hung")
    print(f"caller: {len(caller['errors'])} errors, {caller['wrong']} wrong, p99 {caller['p99_ms']} ms")
    return 1 if found["processes_ended"] or found["hung"] or caller["errors"] or caller["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
