"""``reelkind promote`` against a real server that remembers its answers: none of an earlier version comes back."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton

from reelkind.cli.main import main
from reelkind.deployment.embedded import temporary_repository
from reelkind.serving.models import allow_response_cache
from reelkind.serving.options import ServerOptions
from reelkind.serving.server import TritonServer
from reelkind.serving.state import announced
from tests.serving import tiny_repository
from tests.serving.new_version import write_new_version
from tests.videos import write_video

FRAMES = np.random.default_rng(0).integers(0, 256, (1, 2, 48, 64, 3), np.uint8)


@pytest.fixture
def server(triton_runtime, served_bundle, tmp_path, monkeypatch) -> Iterator[TritonServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = ServerOptions(response_cache_bytes=2**20)
    free = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    with temporary_repository([served_bundle.folder], triton_runtime, ensembles=["classify"]) as repository:
        allow_response_cache(repository)
        server = TritonServer(repository, runtime=triton_runtime, options=options, **free)
        with server, announced(server, {served_bundle.name: served_bundle.folder}):
            yield server


def ask(server: TritonServer) -> float:
    tensor = triton.InferInput("frames", list(FRAMES.shape), "UINT8")
    tensor.set_data_from_numpy(FRAMES)
    with triton.InferenceServerClient(server.url) as client:
        return float(client.infer("classify", [tensor], client_timeout=60).as_numpy("probabilities")[0, 0])


def num_hits(server: TritonServer) -> int:
    """Of all versions, as far as the server still counts them."""
    with urllib.request.urlopen(tiny_repository.metrics_url(server), timeout=60) as answer:
        return sum(
            map(int, re.findall(r'cache_num_hits_per_model\{model="classify".*?\} (\d+)', answer.read().decode()))
        )


@pytest.mark.triton
def test_no_version_answers_from_the_memory_of_another(server, served_bundle, tmp_path):
    new = write_new_version(served_bundle, tmp_path / "new", temperature=4.0)
    clip = str(write_video(tmp_path / "clip.mp4"))
    options = ["--url", server.url, "--clips", clip]
    old = ask(server)
    assert ask(server) == old
    assert num_hits(server) == 1
    assert main(["promote", str(new.folder), *options]) == 0
    renewed = ask(server)
    assert renewed != old
    assert ask(server) == renewed
    assert main(["promote", "--rollback", *options]) == 0
    assert ask(server) == ask(server) == old
    assert num_hits(server) > 0
