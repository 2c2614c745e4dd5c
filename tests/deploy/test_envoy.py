"""The chart's Envoy, really run before two real servers: it takes turns, and loses no answer when one is killed."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from reelkind.benchmarks.failover import Load, kill
from reelkind.client import Client
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.deployment.embedded import embedded_server
from reelkind.serving.server import TritonServer

from .conftest import DEPLOY

pytestmark = pytest.mark.triton

yaml = pytest.importorskip("yaml", reason="the extra `deploy-check` is not installed")
pytest.importorskip("helm_python", reason="the extra `deploy-check` is not installed")
ENVOY = shutil.which("envoy", path=str(Path(sys.executable).parent)) or shutil.which("envoy")
FRAMES = [np.full((2, 32, 32, 3), value, np.uint8) for value in (0, 128, 255)]
CALLERS, ANSWERS = 3, 90


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def here(config: dict[str, Any], ports: list[int], servers: list[str]) -> dict[str, Any]:
    """The chart's configuration on this machine: ``ports`` of admin, gRPC and status, and these servers."""
    resources = config["static_resources"]
    loopback: dict[str, Any] = {"address": "127.0.0.1"}
    for place, port in zip([config["admin"], *resources["listeners"]], ports, strict=True):
        place["address"]["socket_address"] = loopback | {"port_value": port}
    ends = {"servers": [url.rpartition(":") for url in servers], "admin": [("127.0.0.1", ":", str(ports[0]))]}
    for cluster in resources["clusters"]:
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
            {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
            for host, _, port in ends[cluster["name"]]
        ]
    return config


@contextmanager
def envoy(check: ModuleType, servers: list[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Its addresses for callers and for probes."""
    ports = free_ports(3)
    config = yaml.safe_load(check.envoy_config(DEPLOY, check.VARIANTS["envoy"]))
    file = folder / "envoy.yaml"
    file.write_text(yaml.safe_dump(here(config, ports, servers)), encoding="utf-8")
    command = [str(ENVOY), "-c", str(file), "--log-level", "warn", "--concurrency", "1", "--use-dynamic-base-id"]
    with (folder / "envoy.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            status = f"http://127.0.0.1:{ports[2]}"
            wait_until_ready(f"{status}/ready", process, folder / "envoy.log")
            yield f"127.0.0.1:{ports[1]}", status
        finally:
            process.send_signal(signal.SIGTERM)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60.0
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.read() == b"LIVE\n"
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


def given(server: TritonServer) -> int:
    with InferenceServerClient(server.url) as client:
        found = client.get_inference_statistics(specs.classify_name(), client_timeout=10)
    return sum(int(model.inference_stats.success.count) for model in found.model_stats)


@pytest.mark.skipif(ENVOY is None, reason="the extra `deploy-check` is not installed: no Envoy")
def test_envoy_takes_turns_and_a_killed_server_costs_no_answer(
    check: ModuleType, served_bundle: Bundle, triton_runtime: object, tmp_path: Path
) -> None:
    del triton_runtime  # skips where there is none
    folder, ensembles = Path(served_bundle.folder or ""), [specs.classify_name()]
    with (
        embedded_server([folder], ensembles=ensembles) as one,
        embedded_server([folder], ensembles=ensembles) as two,
        envoy(check, [one.url, two.url], tmp_path) as (url, status),
        Client(url, shared_memory=False, timeout_s=120) as client,
    ):
        right = [np.array(list(client.classify_frames(frames).scores.values())) for frames in FRAMES]
        before = given(one), given(two)
        load = Load(client, FRAMES, right)
        with load.run(CALLERS):
            try:
                load.wait_for(ANSWERS // 3)
                shares = given(one) - before[0], given(two) - before[1]
                kill(one)
                load.wait_for(ANSWERS)
            finally:
                load.stop()
        assert (load.lost, load.wrong) == ([], 0)
        assert min(shares) >= ANSWERS // 12  # a quarter of what was given by then, at least
        with urllib.request.urlopen(f"{status}/stats/prometheus", timeout=10) as answer:
            assert b"envoy_cluster_upstream_rq_total" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{status}/quitquitquit", timeout=10)
