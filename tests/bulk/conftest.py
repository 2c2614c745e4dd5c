"""A Ray cluster of two nodes on this machine, which jobs join as they would one of many machines."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelkind.serving.ports import LOOPBACK, claim

START_S = 90.0


@pytest.fixture(scope="session")
def brief_ray() -> Iterator[None]:
    """Ray on loopback without a token, which it would keep in the home folder, that ends without a look back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
        yield


@pytest.fixture(scope="session")
def cluster(brief_ray: None) -> Iterator[str]:
    """Address of a cluster of two nodes with one CPU each."""
    pytest.importorskip("ray", reason="the extra bulk is not installed")
    address = claim(LOOPBACK, 0, 0, 0).grpc_url
    place = Path(tempfile.mkdtemp(prefix="rk", dir="/tmp"))  # short: Ray's sockets lie in it
    common = [f"--node-ip-address={LOOPBACK}", "--num-cpus=1", "--block", "--disable-usage-stats"]
    head = ["--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={place}"]
    nodes = []
    try:
        for options in (head, [f"--address={address}"]):
            command = [str(Path(sys.executable).with_name("ray")), "start", *options, *common]
            log = (place / f"node{len(nodes)}.log").open("w")
            nodes.append(subprocess.Popen(command, stdout=log, stderr=log))
            log.close()
            _wait(command[0], address, len(nodes))
        yield address
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)
        shutil.rmtree(place, ignore_errors=True)


def _wait(ray: str, address: str, num_nodes: int) -> None:
    """Until so many nodes have joined."""
    until = time.monotonic() + START_S
    while True:
        listed = subprocess.run([ray, "status", f"--address={address}"], capture_output=True, text=True, check=False)
        if listed.stdout.count(" node_") >= num_nodes:
            return
        assert time.monotonic() < until, listed.stdout + listed.stderr
        time.sleep(0.5)
