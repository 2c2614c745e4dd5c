"""A Ray cluster of two nodes on this machine, which jobs join as they would one of many machines."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from reelkind.core.errors import ReelkindError
from reelkind.serving.ports import LOOPBACK, claim

START_S = 90.0
BRIEF = {"RAY_AUTH_MODE": "disabled", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
"""Variables of nodes and drivers: no token, which Ray would keep in the home folder; an end without a look back."""


@dataclass(frozen=True)
class Cluster:
    """One that runs.

    Attributes:
        address: for ``--ray``.
        processes: ids of the commands that hold the nodes; all else of the nodes descends from them.
    """

    address: str
    processes: tuple[int, ...]


@contextmanager
def two_nodes(variables: Mapping[str, str] = MappingProxyType({})) -> Iterator[Cluster]:
    """Two nodes with one CPU each, gone with their files after the block; drivers need ``BRIEF``, too.

    Args:
        variables: of their environment, which actors have.

    Raises:
        ReelkindError: if they do not start.
    """
    address = claim(LOOPBACK, 0, 0, 0).grpc_url
    place = Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))  # short: Ray's sockets lie in it
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={place}"]
    common = [f"--node-ip-address={LOOPBACK}", "--num-cpus=1", "--block", "--disable-usage-stats"]
    ray = str(Path(sys.executable).with_name("ray"))
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for options in (head, [f"--address={address}"]):
            with (place / f"node{len(nodes)}.log").open("w") as log:
                command = [ray, "start", *options, *common]
                nodes.append(
                    subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **BRIEF, **variables})
                )
            _wait(ray, address, len(nodes))
        yield Cluster(address, tuple(node.pid for node in nodes))
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait()
        shutil.rmtree(place, ignore_errors=True)


def _wait(ray: str, address: str, num_nodes: int) -> None:
    command, until = [ray, "status", f"--address={address}"], time.monotonic() + START_S
    while True:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **BRIEF})
        if asked.stdout.count(" node_") >= num_nodes:
            return
        if time.monotonic() > until:
            raise ReelkindError(f"a Ray node does not start within {START_S:g} s: {asked.stdout}{asked.stderr}")
        time.sleep(0.5)
