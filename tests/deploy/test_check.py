"""What is wrong in deploy/ is refused, by the tool whose business it is, and by a sentence that names it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import DEPLOY

CHART = "helm/reelkind"
BROKEN = [  # check, file, what is replaced, by what, what must be said
    ("versions", "versions.env", "python:3.12.12", "python:3.12.11", "docker/Dockerfile has PYTHON_IMAGE"),
    ("versions", f"{CHART}/values.yaml", "reelkind-web:0.1.0", "reelkind-web:0.0.9", "web.image is reelkind-web:0.0.9"),
    ("dockerfiles", "docker/Dockerfile", "USER 10001:10001\n", "", "runs as root"),
    ("dockerfiles", "docker/Dockerfile", "WORKDIR /source", "WORKDIR source", "DL3000"),
    ("dockerfiles", "docker/Dockerfile", "COPY . .", "COPPY . .", "unexpected"),
    ("compose", "compose.yaml", "retention.time=15d]", "retention.time=15d]\n    memory_please: 1g", "memory_please"),
    ("compose", "compose.yaml", "condition: service_healthy", "condition: service_happy", "service_happy"),
    ("compose", "compose.yaml", "  read_only: true\n", "", "may write its file system"),
    ("prometheus", "observability/prometheus.yaml", "dns_sd_configs", "dns_sd_config", "dns_sd_config"),
    ("prometheus", "observability/alerts.yaml", "absent(up{", "absents(up{", "absents"),
    ("prometheus", "observability/alerts.yaml", "> 0.01\n", "> 0.9\n", "ReelkindFailing"),
    ("prometheus", "observability/alerts_test.yaml", "150x60", "15x60", "ReelkindWebBacklog"),
    ("ray", "ray/rayjob.yaml", "runAsNonRoot", "runAsNobody", "head, spec.securityContext"),
    ("ray", "ray/rayjob.yaml", "--local-server", "--local-servers", "--local-servers"),
    ("ray", "ray/rayjob.yaml", "2.60.0", "2.59.0", "constraints.txt"),
    ("ray", "ray/rayjob.yaml", "reelkind-bulk:0.1.0", "reelkind-bulk:0.0.9", "reelkind-bulk:0.0.9"),
    (
        "queries",
        "observability/grafana/reelkind.json",
        "sum by (job) (up",
        "sum by job (up",
        "panel 'Servers and pages",
    ),
    ("queries", "observability/prometheus-adapter.yaml", "clamp_min(", "clamp(", "adapter's reelkind_queue_seconds"),
    ("grafana", "observability/grafana/reelkind.json", '"x": 16', '"x": 17', "leaves the grid"),
    ("grafana", "observability/grafana/reelkind.json", '"x": 8', '"x": 7', "lies over"),
    ("grafana", "observability/grafana/reelkind.json", '"uid": "prometheus"', '"uid": "prom"', "'prom', which nobody"),
    ("collector", "observability/otel.yaml", "exporters: [debug]", "exporters: [jaeger]", "the exporter 'jaeger'"),
    ("chart", f"{CHART}/templates/server.yaml", "podManagementPolicy", "podManagement", "podManagement"),
    ("chart", f"{CHART}/templates/server.yaml", ".Values.server.tmpSize", ".Values.servers.tmpSize", "nil pointer"),
    ("chart", f"{CHART}/values.yaml", "mig-1g.10gb ", "mig-8g.10gb ", "/gpu/resource"),
    ("chart", f"{CHART}/values-cpu.yaml", "enabled: false", "enable: false", "'enable'"),
    ("chart", f"{CHART}/templates/server.yaml", "reelkind_queue_seconds", "queue_seconds", "the adapter has"),
    ("envoy", f"{CHART}/templates/envoy.yaml", "lb_policy: LEAST_REQUEST", "lb_policy: LEAST", "envoy: "),
    ("envoy", f"{CHART}/templates/envoy.yaml", "alpn_protocols: [h2]", "alpn_protocol: [h2]", "envoy, tls: "),
    ("versions", f"{CHART}/values.yaml", "distroless-v1.40.0", "distroless-v1.39.0", "envoy.image is envoyproxy/envoy"),
    ("units", "systemd/reelkind@.service", "Type=exec", "Type=exce", "Failed to parse service type"),
]


@pytest.mark.parametrize(("name", "file", "old", "new", "words"), BROKEN, ids=[f"{row[0]}-{row[4]}" for row in BROKEN])
def test_broken_example_is_refused(
    name: str, file: str, old: str, new: str, words: str, check: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "deploy"
    shutil.copytree(DEPLOY, folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    try:
        with pytest.raises(check.RefusedError, match=re.escape(words)):
            getattr(check, name)(folder)
    except check.MissingToolError as missing:
        pytest.skip(str(missing))


def test_what_is_there_is_accepted(check: ModuleType) -> None:
    done = subprocess.run([sys.executable, DEPLOY / "check.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) == len(check.CHECKS) == 11
    assert "REFUSED" not in done.stdout


def test_missing_tool_is_said_and_is_no_failure(monkeypatch: pytest.MonkeyPatch, check: ModuleType) -> None:
    monkeypatch.setattr(check.shutil, "which", lambda name, path=None: None)
    with pytest.raises(check.MissingToolError, match="there is no promtool: apt-get install prometheus"):
        check.prometheus(DEPLOY)


def test_page_and_encrypted_servers_do_not_go_together(check: ModuleType) -> None:
    pytest.importorskip("helm_python", reason="the extra `deploy-check` is not installed")
    with pytest.raises(check.RefusedError, match="the page speaks no TLS to its servers"):
        check.rendered(DEPLOY, {"tls": {"secret": "server-tls"}})


def test_every_pod_drops_root_and_keeps_its_file_system(check: ModuleType) -> None:
    pytest.importorskip("helm_python", reason="the extra `deploy-check` is not installed")
    for values in check.chart_values(DEPLOY).values():
        for kind in check.rendered(DEPLOY, values):
            if kind["kind"] not in ("StatefulSet", "Deployment"):
                continue
            pod = kind["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in [*pod["containers"], *pod.get("initContainers", [])]:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert container["resources"]["limits"]["memory"]
