"""What a server keeps of requests that it has answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from reelkind.serving.server import TritonServer

from .. import tiny_repository

if TYPE_CHECKING:
    from reelkind.serving.install.runtime import Runtime

LARGE = np.zeros((1, 8, 2048, 2048, 3), np.uint8)  # 96 MiB
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
