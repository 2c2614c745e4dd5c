"""Everything in this folder, read by the tools that will read it where it is deployed, or by their own schemas.

    python deploy/check.py            one line a check; 1 if something is refused, by a sentence that says what
    python deploy/check.py --folder F the same for a copy

Helm, Kubernetes' schemas, Envoy and hadolint come from PyPI (extra `deploy-check`); promtool and docker-compose are
Debian's (`prometheus`, `docker-compose`). A tool that is missing leaves its check out, and the line says so.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
GRID_COLUMNS = 24  # of a Grafana dashboard
_PARSE = "import sys; from reelkind.cli.main import build_parser; build_parser().parse_args(sys.argv[1:])"
PANELS = {"timeseries", "stat"}

# Values that turn on what the files of the chart leave off.
VARIANTS: dict[str, dict[str, Any]] = {
    "tls": {"tls": {"secret": "server-tls", "requireClients": True}, "web": {"enabled": False}},
    "traces": {"traces": {"otlp": "http://collector.monitoring:4318/v1/traces"}},
    "fixed size, whole card": {"autoscaling": {"enabled": False}, "gpu": {"resource": "nvidia.com/gpu"}},
    "open network": {"network": {"enabled": False}},
    "envoy": {"envoy": {"enabled": True}},
    "envoy, tls": {
        "envoy": {"enabled": True},
        "tls": {"secret": "server-tls", "requireClients": True},
        "web": {"enabled": False},
    },
}


class RefusedError(Exception):
    """Something is wrong; the message says where and what."""


class MissingToolError(Exception):
    """A tool is missing; the message says which and how to get it."""


def versions(folder: Path) -> str:
    """Pins stand in versions.env; where a file must repeat one, it repeats it rightly."""
    pins = _pins(folder)
    dockerfile = (folder / "docker" / "Dockerfile").read_text(encoding="utf-8")
    for name, default in re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE):
        if pins.get(name) != default:
            raise RefusedError(f"docker/Dockerfile has {name}={default}, versions.env has {pins.get(name)}")
    released = pins["REELKIND_VERSION"]
    chart = _yaml(folder / "helm/reelkind/Chart.yaml")["appVersion"]
    package = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if not released == chart == package:
        raise RefusedError(f"versions.env says {released}, the chart's appVersion {chart}, pyproject.toml {package}")
    for file in sorted((folder / "helm/reelkind").glob("values*.yaml")):
        for part, values in _yaml(file).items():
            if part == "envoy":
                if values.get("image", pins["ENVOY_IMAGE"]) != pins["ENVOY_IMAGE"]:
                    raise RefusedError(f"{file.name}: envoy.image is {values['image']}, versions.env has another")
                continue
            image = values.get("image", f":{released}")
            if image.rpartition(":")[2].partition("-")[0] != released:
                raise RefusedError(f"{file.name}: {part}.image is {image}, versions.env has {released}")
    return f"{len(pins)} pins agree"


def dockerfiles(folder: Path) -> str:
    """Dockerfiles by hadolint; every stage that is run drops root and has a health check."""
    hadolint = _tool("hadolint", "pip install 'reelkind[deploy-check]'")
    files = sorted((folder / "docker").glob("Dockerfile"))
    for file in files:
        _run([hadolint, "--no-color", "--failure-threshold", "info", str(file)])
        stages = re.split(r"^FROM ", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
        for stage in (text for text in stages if "\nENTRYPOINT" in text):
            name = stage.split("\n")[0]
            if not re.search(r"^USER [1-9]\d*", stage, re.MULTILINE):
                raise RefusedError(f"docker/{file.name}: the image `{name}` runs as root: give it USER with a number")
            if "\nHEALTHCHECK" not in stage:
                raise RefusedError(f"docker/{file.name}: the image `{name}` has no HEALTHCHECK")
    return "hadolint has no complaint"


def compose(folder: Path) -> str:
    """compose.yaml by Compose itself, for each profile; the files it mounts exist."""
    command = _compose()
    for profile in ("cpu", "gpu"):
        pins = ("--env-file", str(folder / "versions.env"), "-f", str(folder / "compose.yaml"))
        done = _run([*command, *pins, "--profile", profile, "config"])
        for name, service in yaml.safe_load(done)["services"].items():
            if not service.get("read_only"):
                raise RefusedError(f"compose.yaml: {name} may write its file system: add read_only")
    for mounted in re.findall(
        r"^\s*- (\./[^:]+):", (folder / "compose.yaml").read_text(encoding="utf-8"), re.MULTILINE
    ):
        if not (folder / mounted).is_file():
            raise RefusedError(f"compose.yaml mounts {mounted}, which does not exist")
    return f"{' '.join(Path(part).name for part in command)} reads both profiles"


def prometheus(folder: Path) -> str:
    """Configuration and rules by promtool; the alerts fire in promtool's tests, each alert in one at least."""
    promtool, at = _promtool(), folder / "observability"
    _run([promtool, "check", "config", "--syntax-only", str(at / "prometheus.yaml")])
    _run([promtool, "check", "rules", str(at / "alerts.yaml")])
    _run([promtool, "test", "rules", str(at / "alerts_test.yaml")])
    alerts = {rule["alert"] for group in _yaml(at / "alerts.yaml")["groups"] for rule in group["rules"]}
    cases = [case for test in _yaml(at / "alerts_test.yaml")["tests"] for case in test["alert_rule_test"]]
    untested = alerts - {case["alertname"] for case in cases if case.get("exp_alerts")}
    if untested:
        raise RefusedError(f"alerts_test.yaml lets no {', '.join(sorted(untested))} fire")
    return f"promtool accepts {len(alerts)} alerts, and each fires when it should"


def queries(folder: Path) -> str:
    """PromQL of dashboards and of the adapter, by promtool."""
    promtool = _promtool()
    expressions = dict(promql(folder))
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(expressions.values())]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}, file)
        file.flush()
        try:
            _run([promtool, "check", "rules", file.name])
        except RefusedError as error:
            found = re.search(r'"query:(\d+)"', str(error))
            where = f"{list(expressions)[int(found[1])]}: " if found else ""
            raise RefusedError(f"{where}{error}") from error
    return f"promtool parses {len(expressions)}"


def promql(folder: Path) -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query with Grafana's and the adapter's placeholders filled in."""
    at = folder / "observability"
    for panel in json.loads((at / "grafana/reelkind.json").read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "1m").replace("$slice", ".+")
            yield f"panel {panel['title']!r} {target['refId']}", text
    for rule in _yaml(at / "prometheus-adapter.yaml")["rules"]["custom"]:
        text = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod=~".+"')
        yield f"adapter's {rule['name']['as']}", text


def grafana(folder: Path) -> str:
    """The dashboard's model: what Grafana would silently drop or draw over something else is refused."""
    at = folder / "observability/grafana"
    board = json.loads((at / "reelkind.json").read_text(encoding="utf-8"))
    for key in ("uid", "title", "schemaVersion", "panels", "templating", "time"):
        if not board.get(key):
            raise RefusedError(f"reelkind.json has no {key!r}")
    sources = {source["uid"] for source in _yaml(at / "datasource.yaml")["datasources"]}
    taken: dict[tuple[int, int], str] = {}
    ids = [panel["id"] for panel in board["panels"]]
    if len(set(ids)) != len(ids):
        raise RefusedError("reelkind.json: two panels have the same id")
    for panel in board["panels"]:
        named, place = f"reelkind.json: panel {panel['title']!r}", panel["gridPos"]
        if panel["type"] not in PANELS:
            raise RefusedError(f"{named} is of the type {panel['type']!r}, known: {', '.join(sorted(PANELS))}")
        if place["x"] < 0 or place["w"] < 1 or place["h"] < 1 or place["x"] + place["w"] > GRID_COLUMNS:
            raise RefusedError(f"{named} leaves the grid of {GRID_COLUMNS} columns")
        for cell in (
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ):
            other = taken.setdefault(cell, panel["title"])
            if other != panel["title"]:
                raise RefusedError(f"{named} lies over {other!r}")
        for item in (panel, *panel["targets"]):
            if item["datasource"]["uid"] not in sources:
                raise RefusedError(f"{named} asks the data source {item['datasource']['uid']!r}, which nobody provides")
    return f"{len(ids)} panels"


def collector(folder: Path) -> str:
    """The collector's pipelines name only what is configured."""
    config = _yaml(folder / "observability/otel.yaml")
    for pipeline, parts in config["service"]["pipelines"].items():
        for kind, names in parts.items():
            for name in names:
                if name not in config.get(kind, {}):
                    raise RefusedError(
                        f"otel.yaml: the pipeline {pipeline} names the {kind[:-1]} {name!r}, which is not configured"
                    )
    return "pipelines are complete (its own `validate` is not to be had here)"


def chart(folder: Path) -> str:
    """The chart by Helm's own engine: lint, then every variant rendered, each object by Kubernetes' schemas."""
    try:
        import helm_python
        import kubernetes_validate
    except ModuleNotFoundError as error:
        raise MissingToolError(f"{error.name} is not installed: pip install 'reelkind[deploy-check]'") from None
    kubernetes = _pins(folder)["KUBERNETES_VERSION"]
    queues = {rule["name"]["as"] for rule in _yaml(folder / "observability/prometheus-adapter.yaml")["rules"]["custom"]}
    count, at = 0, folder / "helm/reelkind"
    for name, values in chart_values(folder).items():
        report = helm_python.lint(at, values, strict=True, kube_version=f"v{kubernetes}.0")
        wrong = [message["error"] for message in report["messages"] if message["severity"] > 1]
        if wrong or report["errors"]:
            raise RefusedError(f"helm lint, {name}: {'; '.join(wrong or report['errors'])}")
        for kind in rendered(folder, values):
            try:
                kubernetes_validate.validate(kind, kubernetes, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                raise RefusedError(
                    f"{name}: {kind['kind']} {kind['metadata']['name']}, {where}: {error.message}"
                ) from error
            for metric in kind.get("spec", {}).get("metrics", ()):
                if metric["pods"]["metric"]["name"] not in queues:
                    raise RefusedError(
                        f"{name}: the HPA scales on {metric['pods']['metric']['name']}, the adapter has {queues}"
                    )
            count += 1
    helm, variants = helm_python.helm_sdk_version(), len(chart_values(folder))
    return f"Helm {helm} renders {count} objects of Kubernetes {kubernetes} in {variants} variants"


def chart_values(folder: Path) -> dict[str, dict[str, Any]]:
    """Variant -> values beside the chart's own."""
    files = {file.name: _yaml(file) for file in sorted((folder / "helm/reelkind").glob("values-*.yaml"))}
    return {"values.yaml": {}, **files, **VARIANTS}


def rendered(folder: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Objects of the chart with these values.

    Raises:
        RefusedError: if Helm does not render them.
    """
    import helm_python

    try:
        with helm_python.Chart.load(folder / "helm/reelkind") as chart:
            chart.validate_schema(values)
            files = chart.render(values, name="release", namespace="reelkind", is_install=True)
    except helm_python.HelmError as error:
        raise RefusedError(f"helm template: {error}") from error
    return [part for text in files.values() for part in yaml.safe_load_all(text) if part]


def envoy(folder: Path) -> str:
    """Envoy's configuration, as the chart writes it with and without TLS, by Envoy itself."""
    program = _tool("envoy", "pip install 'reelkind[deploy-check]'")
    try:
        import helm_python  # noqa: F401
        import trustme
    except ModuleNotFoundError as error:
        raise MissingToolError(f"{error.name} is not installed: pip install 'reelkind[deploy-check]'") from None
    variants = {name: values for name, values in VARIANTS.items() if "envoy" in values}
    with tempfile.TemporaryDirectory() as scratch:
        authority, tls = trustme.CA(), Path(scratch, "tls")
        certificate = authority.issue_cert("release-envoy")
        tls.mkdir()
        authority.cert_pem.write_to_path(str(tls / "ca.crt"))
        certificate.cert_chain_pems[0].write_to_path(str(tls / "tls.crt"))
        certificate.private_key_pem.write_to_path(str(tls / "tls.key"))
        for name, values in variants.items():
            config = Path(scratch, "envoy.yaml")
            config.write_text(envoy_config(folder, values).replace(": /tls/", f": {tls}/"), encoding="utf-8")
            try:
                _run([program, "--mode", "validate", "--log-level", "error", "-c", str(config)])
            except RefusedError as error:
                raise RefusedError(f"{name}: {error}") from error
    release = _run([program, "--version"]).split("/")[-4]
    return f"Envoy {release} takes its configuration in {len(variants)} variants"


def envoy_config(folder: Path, values: dict[str, Any]) -> str:
    """What the chart gives Envoy with these values, which turn it on."""
    (config,) = [kind for kind in rendered(folder, values) if kind["kind"] == "ConfigMap"]
    return str(config["data"]["envoy.yaml"])


def ray(folder: Path) -> str:
    """The job of KubeRay: its pods by Kubernetes' schemas, its command by reelkind, its pins by where they stand."""
    try:
        import kubernetes_validate
    except ModuleNotFoundError as error:
        raise MissingToolError(f"{error.name} is not installed: pip install 'reelkind[deploy-check]'") from None
    pins, spec = _pins(folder), _yaml(folder / "ray/rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    tested = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if tested is None or cluster["rayVersion"] != tested[1]:
        raise RefusedError(f"rayjob.yaml has Ray {cluster['rayVersion']}, constraints.txt {tested and tested[1]}")
    _run([sys.executable, "-c", _PARSE, *shlex.split(spec["entrypoint"])[1:]])
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        name = group.get("groupName", "head")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": group["template"]["spec"]}
        try:
            kubernetes_validate.validate(pod, pins["KUBERNETES_VERSION"], strict=True)
        except kubernetes_validate.ValidationError as error:
            raise RefusedError(f"rayjob.yaml: {name}, {'.'.join(map(str, error.path))}: {error.message}") from error
        for container in pod["spec"]["containers"]:
            if container["image"].rpartition(":")[2] != pins["REELKIND_VERSION"]:
                raise RefusedError(
                    f"rayjob.yaml: {name} has {container['image']}, versions.env {pins['REELKIND_VERSION']}"
                )
    return f"{len(groups)} groups of pods, and the command they run (RayJob's own schema is not to be had here)"


def units(folder: Path) -> str:
    """The unit by systemd itself."""
    analyze = _tool("systemd-analyze", "apt-get install systemd")
    with tempfile.TemporaryDirectory() as scratch:
        # The program and the user need not exist where this is checked; everything else is as it will be.
        text = (folder / "systemd/reelkind@.service").read_text(encoding="utf-8")
        unit = Path(scratch, "reelkind@.service")
        unit.write_text(re.sub(r"(?m)^(Exec\w+=)/\S+", r"\1/bin/true", text), encoding="utf-8")
        _run([analyze, "verify", "--man=no", str(unit.with_name("reelkind@0.service"))], cwd=scratch, silent=True)
    return "systemd-analyze has no complaint"


CHECKS: tuple[Callable[[Path], str], ...] = (
    versions, dockerfiles, compose, prometheus, queries, grafana, collector, chart, envoy, ray, units,
)  # fmt: skip


def main() -> int:
    """Run all checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="what to check (default: this one)")
    folder, refused = parser.parse_args().folder, 0
    for check in CHECKS:
        try:
            print(f"{check.__name__}: {check(folder)}")
        except MissingToolError as missing:
            print(f"{check.__name__}: NOT CHECKED: {missing}")
        except (RefusedError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
            refused += 1
            kind = "" if isinstance(error, RefusedError) else f"{type(error).__name__}: "
            print(f"{check.__name__}: REFUSED: {kind}{error}")
    return 1 if refused else 0


def _pins(folder: Path) -> dict[str, str]:
    lines = (folder / "versions.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _promtool() -> str:
    return _tool("promtool", "apt-get install prometheus")


def _compose() -> list[str]:
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return [docker, "compose"]
    return [_tool("docker-compose", "apt-get install docker-compose")]


def _tool(name: str, remedy: str) -> str:
    """A program beside this Python or on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise MissingToolError(f"there is no {name}: {remedy}")
    return found


def _run(command: list[str], *, cwd: str | None = None, silent: bool = False) -> str:
    """Standard output; a failure, or any complaint of a program that should be silent, refuses what it has read."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    if done.returncode or (silent and done.stderr):
        raise RefusedError((done.stderr.strip() + "\n" + done.stdout.strip()).strip())
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
