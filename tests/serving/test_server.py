"""A real tritonserver with the tiny repository: what clients see of it."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from reelkind.core.specs import CPU_BACKBONE_NICENESS
from reelkind.serving.control import Control
from reelkind.serving.errors import ServingError
from reelkind.serving.models import canary_feeds
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer

from . import tiny_repository
from .tiny_repository import expected_probabilities, infer, random_frames

pytestmark = pytest.mark.triton

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return tiny_repository.write(tmp_path_factory.mktemp("models"), queue_delay_s=0.2)


@pytest.fixture(scope="module")
def server(triton_runtime, repository) -> Iterator[TritonServer]:
    with TritonServer(repository, runtime=triton_runtime, **FREE) as running:
        yield running


def test_ensemble_answers(server):
    frames = random_frames(2, 7)
    np.testing.assert_allclose(infer(server.url, frames), expected_probabilities(frames), atol=1e-6)


def test_http_and_metrics_listen_too(server):
    for url in (f"{server.http_url}/v2/health/ready", tiny_repository.metrics_url(server)):
        with urllib.request.urlopen(url, timeout=60) as response:
            assert response.status == 200


def test_concurrent_requests_share_executions_and_get_their_own_answers(server):
    barrier = threading.Barrier(8)

    def ask(seed: int) -> float:
        frames = random_frames(seed=seed)
        barrier.wait()
        return float(np.abs(infer(server.url, frames) - expected_probabilities(frames)).max())

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(32))) < 1e-6
    with triton.InferenceServerClient(server.url) as client:
        (statistics,) = client.get_inference_statistics("tiny_answer").model_stats
    assert statistics.inference_count >= 32
    assert statistics.execution_count < statistics.inference_count


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        pytest.param(np.zeros((1, 0, 4, 4, 3), np.uint8), "no axis empty", id="no frames"),
        pytest.param(np.zeros((1, 301, 4, 4, 3), np.uint8), "has 301 frames, at most 300", id="too many frames"),
        pytest.param(np.zeros((1, 4, 4, 4, 4), np.uint8), "unexpected shape", id="four channels"),
        pytest.param(np.zeros((9, 1, 4, 4, 3), np.uint8), "batch-size must be <= 8", id="too many videos"),
        pytest.param(np.zeros((1, 4, 4, 4, 3), np.float32), "data-type is 'FP32'", id="dtype"),
    ],
)
def test_wrong_request_gets_a_clear_answer_without_paths(server, frames, words):
    with pytest.raises(InferenceServerException) as raised:
        infer(server.url, frames)
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert words in raised.value.message()
    assert "/" not in raised.value.message()


def test_strangers_cannot_replace_models_or_write_files(server):
    with triton.InferenceServerClient(server.url) as client:
        for forbidden in (
            lambda: client.unload_model("tiny_answer"),
            lambda: client.update_log_settings({"log_file": "anywhere"}),
            lambda: client.update_trace_settings(settings={"trace_file": "anywhere"}),
        ):
            with pytest.raises(InferenceServerException, match="protocol is restricted"):
                forbidden()
    unload = urllib.request.Request(f"{server.http_url}/v2/repository/models/tiny_answer/unload", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(unload, timeout=60)


def test_stop_lets_the_answer_in_flight_through_and_leaves_nothing(triton_runtime, tmp_path):
    repository = tiny_repository.write(tmp_path / "models", delay_s=1.0)
    server = TritonServer(repository, runtime=triton_runtime, supervise=False, **FREE)  # no canaries between
    others = set(Path("/tmp").glob("python_env_*"))  # Triton's own litter
    server.start()
    backends_folders = set(Path("/tmp").glob("python_env_*")) - others
    pids, prefix = server.process_ids(), server._tree.shm_prefix
    assert len(pids) == 4  # guard, tritonserver, two stubs
    assert list(Path("/dev/shm").glob(prefix + "*"))
    frames = random_frames()
    seen, deadline = server.control.num_requests("tiny_pixels"), time.monotonic() + 60.0
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(infer, server.url, frames)
        while server.control.num_requests("tiny_pixels") == seen:  # then it is with the slow model
            assert time.monotonic() < deadline, "the request did not arrive"
            time.sleep(0.01)
        server.stop()
        np.testing.assert_allclose(answer.result(), expected_probabilities(frames), atol=1e-6)
    assert [pid for pid in pids if processes.read(pid)] == []
    assert list(Path("/dev/shm").glob(prefix + "*")) == []
    assert not server._scratch.exists()
    assert [folder for folder in backends_folders if folder.exists()] == []


def test_a_server_that_crashes_in_starting_is_started_again(triton_runtime, repository, tmp_path):
    wrapper, crashes = tmp_path / "tritonserver", tmp_path / "crashes"
    wrapper.write_text(
        f"#!/bin/sh\nif [ ! -e {crashes} ]; then touch {crashes}; kill -SEGV $$; fi\n"
        f'exec {triton_runtime.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    with TritonServer(repository, runtime=replace(triton_runtime, executable=wrapper), **FREE) as server:
        assert crashes.exists()
        frames = random_frames()
        np.testing.assert_allclose(infer(server.url, frames), expected_probabilities(frames), atol=1e-6)


def test_broken_model_is_named_with_its_reason(triton_runtime, tmp_path):
    repository = tiny_repository.write(tmp_path)
    (repository / "tiny_answer" / "1" / "model.onnx").unlink()
    server = TritonServer(repository, runtime=triton_runtime, **FREE)
    with pytest.raises(ServingError) as raised:
        server.start()
    assert str(raised.value) == (
        "tritonserver cannot load tiny_answer: tiny_answer: model.onnx is missing beside its model.py"
    )
    assert server.process_ids() == []


def test_two_servers_live_side_by_side(server, triton_runtime, repository):
    with TritonServer(repository, runtime=triton_runtime, **FREE) as other:
        assert other.url != server.url
        frames = random_frames()
        np.testing.assert_array_equal(infer(server.url, frames), infer(other.url, frames))
    assert infer(server.url, frames).shape == (1, 4)


def test_packaged_or_random_bundle_answers_through_every_ensemble(triton_server):
    for name, config in triton_server.configs.items():
        answers = infer_all(triton_server.url, name, canary_feeds(config, num_frames=5))
        assert answers.keys() == {output.name for output in config.output}
        for output, values in answers.items():
            assert np.isfinite(values).all()
            if output in ("probabilities", "attention"):
                np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
    assert {"classify", "classify_tta"} <= set(triton_server.ensembles)


def infer_all(url: str, model: str, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    control = Control(url)
    try:
        return control.infer(model, feeds, timeout_s=60)
    finally:
        control.close()


@pytest.mark.triton
def test_backbones_stand_back_behind_the_cheap_steps(triton_server):
    levels = {stub.model: os.getpriority(os.PRIO_PROCESS, stub.process.pid) for stub in triton_server.stubs()}
    backbones = {level for model, level in levels.items() if model.startswith("backbone_")}
    others = {level for model, level in levels.items() if not model.startswith("backbone_")}
    assert {level - CPU_BACKBONE_NICENESS for level in backbones} == others
