"""Nothing of ours reports to anybody: ONNX Runtime's telemetry is off wherever it is loaded."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {  # all forbid it first
    "export/pipelines/onnx_runtime.py",
    "serving/runner/executors.py",
    "benchmarks/peers/pytriton_peer.py",
}

# The kernel counts what finds no way out, name servers' addresses among it; ``ip`` sets loopback up for the server.
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

SERVE = """
import sys
from tests.serving import tiny_repository
from reelkind.serving.server import TritonServer
with TritonServer(sys.argv[1], grpc_port=0, http_port=0, metrics_port=0) as server:
    tiny_repository.infer(server.url, tiny_repository.random_frames())
"""

SESSION = """
import sys
from reelkind.export.pipelines.onnx_runtime import onnxruntime
onnxruntime.InferenceSession(sys.argv[1] + "/tiny_answer/1/model.onnx", providers=["CPUExecutionProvider"])
"""

LOUD = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 53))"

COUNT = """
import json, subprocess, sys
from pathlib import Path
output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
done = subprocess.run([sys.executable, "-c", *sys.argv[1:]], text=True, **output)
names, values = (line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:"))
print(json.dumps([done.returncode, done.stdout, int(dict(zip(names, values))["OutNoRoutes"])]))
"""


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Run a Python program in an empty network namespace; count the packets that found no route out of it."""
    if not (shutil.which("unshare") and shutil.which("ip")) or subprocess.run([*ALONE, "true"]).returncode:
        pytest.skip("no network namespaces here (util-linux, iproute2, user namespaces)")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)

    def run(program: str, *arguments: str) -> int:
        command = [*ALONE, sys.executable, "-c", COUNT, program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        status, output, num_lost = json.loads(done.stdout)
        assert status == 0, output
        return num_lost

    return run


def test_the_count_sees_a_packet_that_would_leave(alone):
    assert alone(LOUD) > 0


@pytest.mark.triton
@pytest.mark.usefixtures("triton_runtime")
@pytest.mark.parametrize("program", [pytest.param(SERVE, id="server"), pytest.param(SESSION, id="this process")])
def test_no_packet_leaves_and_no_session_file_stays(alone, program, tmp_path):
    from tests.serving import tiny_repository

    repository = tiny_repository.write(tmp_path / "models")
    assert alone(program, str(repository)) == 0
    assert list(tmp_path.rglob(".ses")) == []


def test_onnx_runtime_is_imported_where_it_is_silenced_only():
    wrong = []
    folders = [ROOT / "tests", *(path.parent for path in ROOT.glob("*/__init__.py"))]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name in MAY_IMPORT:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{name} imports {module}" for module in modules if module.split(".")[0] == "onnxruntime"]
    assert not wrong, "\n".join([*wrong, "take it from reelkind.export.pipelines.onnx_runtime"])
