"""The services of compose.yaml's profile ``cpu`` as plain processes, in the order of their dependencies.

Commands are those of the Compose file, with addresses of this machine and folders of the test in the place of names and
volumes. Grafana and the collector are no Debian packages: what Grafana would ask, the test asks of Prometheus.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from .conftest import DEPLOY

yaml = pytest.importorskip("yaml", reason="the extra `deploy-check` is not installed")
pytest.importorskip("flask", reason="the extra `web` is not installed")

SAMPLE = DEPLOY.parent / "samples" / "flat_slides.mp4"
TOKEN = "a token of this test"
SCRAPE_S = 2
COMMAND = [sys.executable, "-m", "reelkind.cli.main"]
NO_DATA = {  # queries that rightly have no answer where nothing has been refused
    "panel 'Refused and failed a second' A",
    "adapter's reelkind_queue_seconds",  # has the label `pod` in Kubernetes only
}


class Stack:
    """What runs: addresses of server, page and Prometheus."""

    def __init__(self, prometheus: str, page: str, metrics: dict[str, str]) -> None:
        self.prometheus, self.page, self.metrics = prometheus, page, metrics

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series that Prometheus answers with."""
        text = urllib.parse.urlencode({"query": expression})
        return list(fetch(f"{self.prometheus}/api/v1/query?{text}")["data"]["result"])


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Of compose.yaml."""
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"])


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, triton_runtime: object, services: dict[str, Any]
) -> Iterator[Stack]:
    """Server, then page, then Prometheus, each when the one before is healthy; one video has been answered."""
    del triton_runtime  # skips where there is none
    if not (prometheus := shutil.which("prometheus")):
        pytest.skip("there is no prometheus: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("stack")
    grpc, http, metrics, web, own = free_ports(5)
    environment = {**os.environ, "REELKIND_WEB_TOKEN": TOKEN, "REELKIND_URL": f"127.0.0.1:{grpc}"}
    with ExitStack() as running:
        ports = ["--grpc-port", str(grpc), "--http-port", str(http), "--metrics-port", str(metrics)]
        given = [part for part in services["server-cpu"]["command"] if part.startswith("--trace-rate")]
        assert given, "the server of compose.yaml traces"
        collector = ["--trace-otlp", f"http://127.0.0.1:{free_ports(1)[0]}/v1/traces", "--trace-rate", "100"]
        bundle = ["--bundle", str(DEPLOY.parent / "bundles" / "lite")]
        running.enter_context(process([*COMMAND, "serve", *ports, *bundle, *collector], folder / "server", environment))
        until(lambda: healthy([*COMMAND, "health"], environment), 120, folder / "server")

        assert services["web-cpu"]["depends_on"] == {"server-cpu": {"condition": "service_healthy"}}
        options = services["web-cpu"]["command"]
        assert options[::2] == ["--host", "--data", "--url"]
        page = ["web", "--host", "127.0.0.1", "--port", str(web), "--data", str(folder / "data")]
        url = ["--url", options[5].replace("server:8001", f"localhost:{grpc}"), "--no-prefetch"]
        running.enter_context(process([*COMMAND, *page, *url], folder / "web", environment))
        until(lambda: bool(fetch(f"http://127.0.0.1:{web}/healthz")), 60, folder / "web")

        config = yaml.safe_load((DEPLOY / "observability/prometheus.yaml").read_text(encoding="utf-8"))
        config["global"]["scrape_interval"] = config["global"]["evaluation_interval"] = f"{SCRAPE_S}s"
        (folder / "token").write_text(TOKEN)
        for job, port in zip(config["scrape_configs"], (metrics, web), strict=True):
            assert job.pop("dns_sd_configs")
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
            if "authorization" in job:
                job["authorization"] = {"credentials_file": str(folder / "token")}
        shutil.copy(DEPLOY / "observability/alerts.yaml", folder)
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        files = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
        listen = [f"--web.listen-address=127.0.0.1:{own}"]
        running.enter_context(process([prometheus, *files, *listen], folder / "prometheus", environment))
        at = f"http://127.0.0.1:{own}"
        until(lambda: len(up(at)) == 2, 60, folder / "prometheus")

        for _ in range(3):
            assert answered(f"http://127.0.0.1:{web}")["status"] == "done"
            time.sleep(2 * SCRAPE_S)  # rates need two scrapes
        scraped = {
            "server": fetch_text(f"http://127.0.0.1:{metrics}/metrics"),
            "web": fetch_text(f"http://127.0.0.1:{web}/metrics"),
        }
        yield Stack(at, f"http://127.0.0.1:{web}", scraped)


@pytest.mark.triton
def test_every_metric_named_exists_in_a_scrape(stack: Stack, check: ModuleType) -> None:
    alerts = yaml.safe_load((DEPLOY / "observability/alerts.yaml").read_text(encoding="utf-8"))
    texts = [text for _, text in check.promql(DEPLOY)]
    texts += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    named = {name for text in texts for name in re.findall(r"\b(?:nv|reelkind_web)_\w+", text)}
    offered = {name for text in stack.metrics.values() for name in re.findall(r"^(\w+)(?:\{| )", text, re.MULTILINE)}
    assert len(named) > 10
    assert named - offered == set()


@pytest.mark.triton
def test_prometheus_answers_what_every_panel_asks(stack: Stack, check: ModuleType) -> None:
    empty = {name for name, text in check.promql(DEPLOY) if not stack.query(text)}
    assert empty <= NO_DATA


@pytest.mark.triton
def test_answers_show_up_at_server_and_page(stack: Stack) -> None:
    (done,) = stack.query('reelkind_web_jobs{status="done"}')
    assert float(done["value"][1]) == 3
    (asked,) = stack.query('sum(nv_inference_request_success{model=~"(classify|features).*"})')
    assert float(asked["value"][1]) >= 1  # the same video again is answered from kept features


@pytest.mark.triton
def test_alerts_are_loaded_and_healthy_services_fire_none(stack: Stack) -> None:
    rules = fetch(f"{stack.prometheus}/api/v1/rules")["data"]["groups"]
    assert sum(len(group["rules"]) for group in rules) == 10
    assert all(rule["health"] == "ok" for group in rules for rule in group["rules"])
    assert fetch(f"{stack.prometheus}/api/v1/alerts")["data"]["alerts"] == []


@contextmanager
def process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run until the block ends, then stop it as a container would be."""
    with log.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


def until(is_so: Any, timeout_s: float, log: Path) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if is_so():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


def healthy(command: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def up(prometheus: str) -> list[Any]:
    return [
        target for target in fetch(f"{prometheus}/api/v1/targets")["data"]["activeTargets"] if target["health"] == "up"
    ]


def answered(page: str) -> dict[str, Any]:
    """A video through the page's interface, when it is over."""
    border = uuid4().hex
    head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{SAMPLE.name}"\r\n\r\n'
    body = head.encode() + SAMPLE.read_bytes() + f"\r\n--{border}--\r\n".encode()
    request = urllib.request.Request(f"{page}/api/jobs", body, headers())
    request.add_header("Content-Type", f"multipart/form-data; boundary={border}")
    with urllib.request.urlopen(request, timeout=60) as response:
        job = json.load(response)
    deadline = time.monotonic() + 120
    while job["status"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(0.3)
        job = fetch(f"{page}/api/jobs/{job['id']}")
    return dict(job)


def fetch(url: str) -> dict[str, Any]:
    return dict(json.loads(fetch_text(url)))


def fetch_text(url: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers()), timeout=30) as response:
        return str(response.read().decode())


def headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}"}
