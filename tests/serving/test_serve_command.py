"""``reelkind serve`` from outside: lines, signals, exit codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reelkind.serving.process import processes

from . import tiny_repository
from .tiny_repository import infer, random_frames

SERVE = [sys.executable, "-m", "reelkind.cli.main", "serve"]
FREE = ["--grpc-port", "0", "--http-port", "0", "--metrics-port", "0"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    return tiny_repository.write(tmp_path_factory.mktemp("models"))


@pytest.mark.triton
@pytest.mark.usefixtures("triton_runtime")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_serves_until_told_to_stop(repository, number, tmp_path):
    log = tmp_path / "triton.log"
    command = [*SERVE, "--repository", str(repository), *FREE, "--log-file", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        try:
            line = serving.stdout.readline()
            assert line.startswith("ready: grpc 127.0.0.1:")
            assert "ensembles classify, " in line
            url = line.split("grpc ")[1].split(",")[0]
            assert infer(url, random_frames()).shape == (1, 4)
            serving.send_signal(number)
            out, err = serving.communicate(timeout=120)
        finally:
            serving.kill()
    assert (serving.returncode, out, err) == (0, "", "")
    assert b"Started GRPCInferenceService" in log.read_bytes()


@pytest.mark.triton
@pytest.mark.usefixtures("triton_runtime")
def test_server_that_cannot_be_brought_back_ends_with_the_reason(tmp_path):
    repository = tiny_repository.write(tmp_path)
    command = [*SERVE, "--repository", str(repository), *FREE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout.readline().startswith("ready: ")
            (repository / "tiny_answer" / "1" / "model.onnx").unlink()
            (guard,) = children(serving.pid)
            for tritonserver in children(guard):
                os.kill(tritonserver, signal.SIGKILL)
            _, err = serving.communicate(timeout=300)
        finally:
            serving.kill()
    assert serving.returncode == 1
    assert err.rstrip().endswith(
        "gave up after 3 restarts in a row; last reason: "
        "tritonserver cannot load tiny_answer: tiny_answer: model.onnx is missing beside its model.py"
    )


def children(parent: int) -> list[int]:
    found = [processes.read(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [process.pid for process in found if process is not None and process.parent == parent]


@pytest.mark.triton
@pytest.mark.usefixtures("triton_runtime")
def test_taken_port_is_one_line_and_exit_1(repository):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [*SERVE, "--repository", str(repository), *FREE, "--grpc-port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"reelkind: port {port} on 127.0.0.1 is taken: stop what listens there or choose another --grpc-port\n"
    )


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        pytest.param(["--bundle", "nowhere"], 1, "reelkind: no bundle in nowhere", id="no bundle"),
        pytest.param(["--threads", "0"], 2, "argument --threads: must be at least 1, got 0", id="threads"),
        pytest.param(["--log-file", "/no/folder", *FREE], 1, "cannot write the log /no/folder", id="log"),
        pytest.param(["--bundle", "a", "--repository", "b"], 2, "not allowed with", id="contradiction"),
        pytest.param(["--tls-cert", "server.pem"], 2, "TLS needs both --tls-cert and --tls-key", id="half of TLS"),
        pytest.param(
            ["--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"],
            1,
            "nowhere.pem cannot be read",
            id="no certificate",
        ),
        pytest.param(["--repository", "b", "--threads", "2"], 2, "is served as it is", id="no bundle, but threads"),
        pytest.param(["--repository", "b", "--max-queue", "9"], 2, "is served as it is", id="no bundle, but a queue"),
        pytest.param(["--flavour", "tensorrt"], 2, "--engines DIR go together", id="no engines"),
        pytest.param(["--engines", "build/engines"], 2, "--engines DIR go together", id="nothing runs engines"),
        pytest.param(
            ["--response-cache", "much"], 2, "must look like 64MiB (or KiB, GiB), got 'much'", id="cache size"
        ),
        pytest.param(["--trace-otlp", "localhost"], 1, "'localhost' is no OTLP endpoint", id="collector"),
        pytest.param(["--trace-otlp", "http://a", "--trace-file", "b"], 2, "not allowed with", id="two traces"),
    ],
)
def test_wrong_options_are_one_sentence(options, status, words):
    done = subprocess.run([*SERVE, *options], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("triton_runtime")
def test_somebody_elses_repository_is_not_changed_for_a_cache(repository):
    command = [*SERVE, "--repository", str(repository), *FREE, "--response-cache", "1MiB"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no ensemble in " in done.stderr
    assert "add `response_cache { enable: true }` to the config.pbtxt of those that should" in done.stderr
