"""A real tritonserver whose processes are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from reelkind.core.files import checksums
from reelkind.serving import supervisor
from reelkind.serving.errors import ServingError
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer

from . import tiny_repository
from .tiny_repository import expected_probabilities, infer, random_frames

pytestmark = pytest.mark.triton

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
FRAMES = random_frames()
RECOVERY_S = 120.0  # measured: 1 to 3 s


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return tiny_repository.write(tmp_path_factory.mktemp("models"))


@pytest.fixture
def server(triton_runtime, repository) -> Iterator[TritonServer]:
    with TritonServer(repository, runtime=triton_runtime, **FREE) as running:
        yield running


def wait_for_answer(url: str) -> None:
    deadline = time.monotonic() + RECOVERY_S
    while True:
        try:
            np.testing.assert_allclose(infer(url, FRAMES, 5.0), expected_probabilities(FRAMES), atol=1e-6)
            return
        except InferenceServerException:
            assert time.monotonic() < deadline, "the server did not recover"
            time.sleep(0.1)


def wait_until_logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    deadline = time.monotonic() + RECOVERY_S
    while not any(words in message for message in caplog.messages):
        assert time.monotonic() < deadline, f"nothing says {words!r}"
        time.sleep(0.01)


def tritonserver_of(server: TritonServer) -> int:
    guard = server._tree._guard.pid
    return next(process.pid for process in processes.session(guard) if process.parent == guard)


def test_every_killed_stub_comes_back_without_a_restart(server, caplog):
    head = tritonserver_of(server)
    for model in ("tiny_pixels", "tiny_answer"):
        (stub,) = [stub for stub in server.stubs() if stub.model == model]
        os.kill(stub.process.pid, signal.SIGKILL)
        wait_until_logged(caplog, f"{model}: answers again")
        wait_for_answer(server.url)
        assert [stub.model for stub in server.stubs()].count(model) == 1
    assert tritonserver_of(server) == head
    server.stop()
    events = [record.getMessage().partition(" after")[0] for record in caplog.records]
    assert [
        event.replace("died or hangs", "died").replace("hangs", "died") for event in events
    ] == [  # a canary may be the first to notice
        "tiny_pixels: its process died; loading again",
        "tiny_pixels: answers again",
        "tiny_answer: its process died; loading again",
        "tiny_answer: answers again",
    ]


def test_swapped_model_file_is_refused_when_a_process_comes_back_and_the_reason_is_told(
    triton_runtime, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(supervisor, "MAX_RESTARTS", 1)
    repository = tiny_repository.write(tmp_path)
    graph = repository / "tiny_answer" / "1" / "model.onnx"
    checksums.record(graph)
    with TritonServer(repository, runtime=triton_runtime, **FREE) as server:
        shutil.copyfile(repository / "tiny_pixels" / "1" / "model.onnx", graph)
        assert ask(server.url)  # what is loaded goes on
        (stub,) = [stub for stub in server.stubs() if stub.model == "tiny_answer"]
        os.kill(stub.process.pid, signal.SIGKILL)
        with pytest.raises(ServingError, match=r"tiny_answer: model\.onnx is not what SHA256SUMS says: it is damaged"):
            server.wait(RECOVERY_S)


def test_hanging_stub_is_found_by_the_canary(server, monkeypatch):
    monkeypatch.setattr(supervisor, "CANARY_INTERVAL_S", 0.3)
    hanging = server.stubs()[0]
    server._supervisor._next_canary = 0.0
    os.kill(hanging.process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    wait_for_answer(server.url)
    assert not processes.is_alive(hanging.process)


def test_one_hanging_process_of_two_is_found_although_the_other_answers(triton_runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "CANARY_INTERVAL_S", 0.3)
    monkeypatch.setattr(supervisor, "SUSPICION_INTERVAL_S", 0.1)
    repository = tiny_repository.write(tmp_path, num_instances=2)
    with TritonServer(repository, runtime=triton_runtime, **FREE) as server:
        hanging = next(stub for stub in server.stubs() if stub.model == "tiny_pixels")
        os.kill(hanging.process.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 2 * RECOVERY_S
        while processes.is_alive(hanging.process):  # traffic, which spares the canary as long as nothing fails
            assert time.monotonic() < deadline, "the hanging process was not found"
            ask(server.url)
            time.sleep(0.1)
        wait_for_answer(server.url)


def ask(url: str) -> bool:
    try:
        return infer(url, FRAMES, 5.0).shape == (1, 4)
    except InferenceServerException:
        return False


def test_killed_tritonserver_is_started_again_on_the_same_ports(server, caplog):
    url, head = server.url, tritonserver_of(server)
    os.kill(head, signal.SIGKILL)
    time.sleep(2 * supervisor.TICK_S)
    wait_for_answer(url)
    assert tritonserver_of(server) != head
    assert server.url == url
    assert "tritonserver was killed by signal 9; restarting the server" in caplog.messages


def test_stopped_tritonserver_is_started_again(server, caplog):
    url, head = server.url, tritonserver_of(server)
    os.kill(head, signal.SIGSTOP)
    wait_until_logged(caplog, "tritonserver's process is stopped; restarting the server")
    wait_for_answer(url)
    assert processes.read(head) is None
    assert tritonserver_of(server) != head


def test_stop_in_the_middle_of_a_restart_is_quick_and_leaves_nothing(server, caplog):
    os.kill(tritonserver_of(server), signal.SIGKILL)
    wait_until_logged(caplog, "restarting the server")
    time.sleep(0.2)  # the new one has been launched, or is about to be
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 60.0
    assert server.process_ids() == []
    assert list(Path("/dev/shm").glob(server._tree.shm_prefix + "*")) == []


def test_stop_after_crashes_is_quick_and_leaves_nothing(server):
    os.kill(server.stubs()[0].process.pid, signal.SIGKILL)
    time.sleep(2 * supervisor.TICK_S)
    wait_for_answer(server.url)
    pids, prefix = server.process_ids(), server._tree.shm_prefix
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 60.0
    assert [pid for pid in pids if processes.read(pid)] == []
    assert list(Path("/dev/shm").glob(prefix + "*")) == []


def test_killed_parent_leaves_no_server(triton_runtime, repository):
    code = f"""
import time
from reelkind.serving.server import TritonServer
server = TritonServer({str(repository)!r}, grpc_port=0, http_port=0, metrics_port=0)
server.start()
print(server._tree._guard.pid, server._tree.shm_prefix, server._scratch, flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        guard, prefix, scratch = parent.stdout.readline().split()
        assert len(processes.session(int(guard))) == 4
        parent.kill()
    deadline = time.monotonic() + 60.0
    while processes.session(int(guard)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes.session(int(guard)) == []
    assert list(Path("/dev/shm").glob(prefix + "*")) == []
    assert not Path(scratch).exists()
