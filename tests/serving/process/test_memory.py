"""What a server keeps of requests that it has answered, and what it says when there is no memory to share."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from reelkind.serving.server import TritonServer

from .. import tiny_repository

if TYPE_CHECKING:
    from reelkind.serving.install.runtime import Runtime

LARGE = np.zeros((1, 8, 2048, 2048, 3), np.uint8)  # 96 MiB
ROOT = Path(__file__).parents[3]
SMALL = 'mount -t tmpfs -o size=20m tmpfs /dev/shm && exec "$@"'  # a /dev/shm of its own, too small for one request
ALONE = ["unshare", "--map-root-user", "--mount", "--propagation", "private", "sh", "-c", SMALL, "sh"]
OVERFLOW = """
import sys
import numpy as np
from tritonclient.utils import InferenceServerException
from tests.serving import tiny_repository
from reelkind.serving.server import TritonServer

with TritonServer(sys.argv[1], grpc_port=0, http_port=0, metrics_port=0) as server:
    small, before = tiny_repository.random_frames(), sorted(server.process_ids())
    right = tiny_repository.infer(server.url, small)
    for _ in range(2):
        try:
            tiny_repository.infer(server.url, np.zeros((1, 8, 1024, 1024, 3), np.uint8))
        except InferenceServerException as error:
            assert "--shm-size" in error.message(), error.message()
        else:
            sys.exit("a request found room where there was none")
        assert (tiny_repository.infer(server.url, small) == right).all()
    assert sorted(server.process_ids()) == before, "a process ended"
"""
FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}


def private_bytes(server: TritonServer) -> int:
    """Memory of tritonserver's own, without what it shares with models' processes."""
    (pid,) = (pid for pid in server.process_ids() if name_of(pid) == "tritonserver")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(found) * 1024


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


@pytest.mark.triton
def test_memory_comes_back_after_large_requests(triton_runtime: Runtime, tmp_path: Path) -> None:
    with TritonServer(tiny_repository.write(tmp_path / "models"), runtime=triton_runtime, **FREE) as server:
        tiny_repository.infer(server.url, tiny_repository.random_frames())
        before = private_bytes(server)
        for _ in range(3):
            tiny_repository.infer(server.url, LARGE, timeout_s=120)
        assert private_bytes(server) - before < 2 * LARGE.nbytes  # the last one may stay, not all three


@pytest.mark.triton
def test_full_shared_memory_costs_the_request_that_fills_it_and_nothing_else(
    triton_runtime: Runtime, tmp_path: Path
) -> None:
    del triton_runtime  # skips where there is none
    if not shutil.which("unshare") or subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here (util-linux, user namespaces)")
    command = [*ALONE, sys.executable, "-c", OVERFLOW, str(tiny_repository.write(tmp_path / "models"))]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
