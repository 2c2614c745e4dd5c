"""Response cache, traces and guarded HTTP of a real server."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from reelkind.client import AccessDenied
from reelkind.client.transport import http_transport
from reelkind.client.transport.address import parse_target
from reelkind.client.transport.http_transport import BlockingHttp
from reelkind.client.transport.transport import finish
from reelkind.serving import supervisor
from reelkind.serving.errors import ServingError
from reelkind.serving.models import allow_response_cache
from reelkind.serving.options import ServerOptions, Tracing
from reelkind.serving.server import TritonServer

from . import tiny_repository
from .tiny_repository import infer, random_frames

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}


class Collector(BaseHTTPRequestHandler):
    """Stand-in for an OpenTelemetry collector: keeps what is posted."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, json.loads(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.received = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def cache_counts(server: TritonServer) -> dict[str, int]:
    with urllib.request.urlopen(tiny_repository.metrics_url(server), timeout=60) as answer:
        text = answer.read().decode()
    found = re.findall(r'nv_cache_num_(hits|misses)_per_model\{model="classify".*?\} (\d+)', text)
    return {name: int(value) for name, value in found}


@pytest.mark.triton
def test_second_identical_request_is_answered_from_the_cache(triton_runtime, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "CANARY_INTERVAL_S", 0.2)
    repository = tiny_repository.write(tmp_path)
    allow_response_cache(repository)
    options = ServerOptions(response_cache_bytes=2**20)
    with TritonServer(repository, runtime=triton_runtime, options=options, **FREE) as server:
        first = infer(server.url, random_frames())
        before = cache_counts(server)
        assert before["hits"] == 0
        assert (infer(server.url, random_frames()) == first).all()
        assert cache_counts(server)["hits"] == 1
        infer(server.url, random_frames(seed=1))
        deadline = time.monotonic() + 60.0
        while cache_counts(server)["misses"] <= before["misses"] + 1:  # canaries reach the models, however often asked
            assert time.monotonic() < deadline, "no canary went past the cache"
            time.sleep(0.1)
        assert cache_counts(server)["hits"] == 1


@pytest.mark.triton
def test_http_that_is_not_open_takes_inference_from_holders_of_the_key_only(triton_runtime, tmp_path, monkeypatch):
    repository = tiny_repository.write(tmp_path)
    with TritonServer(repository, runtime=triton_runtime, options=ServerOptions(open_http=False), **FREE) as server:
        before = sorted(server.process_ids())
        killer = {"name": "frames", "datatype": "UINT8", "shape": [1, 1, 2**63 - 1, 32, 3], "data": [1]}
        url = f"{server.http_url}/v2/models/classify/infer"
        request = urllib.request.Request(url, json.dumps({"inputs": [killer]}).encode())
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=20)
        assert sorted(server.process_ids()) == before
        owner, frames = BlockingHttp(parse_target(server.http_url).first, {}, None), random_frames()
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: finish(owner.close()))
            assert finish(owner.is_ready("classify", 20))
            reply = finish(owner.infer("classify", {"frames": frames}, ["probabilities"], 60))
            np.testing.assert_allclose(reply.tensors["probabilities"], infer(server.url, frames), atol=1e-6)
            monkeypatch.setattr(http_transport, "known_key", lambda port: None)
            with pytest.raises(AccessDenied, match="with its key only: use gRPC"):
                finish(owner.infer("classify", {"frames": frames}, ["probabilities"], 60))


@pytest.mark.triton
def test_collector_receives_a_span_of_every_composing_model(triton_runtime, tmp_path, collector):
    url = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    options = ServerOptions(tracing=Tracing(otlp_url=url))
    with TritonServer(tiny_repository.write(tmp_path), runtime=triton_runtime, options=options, **FREE) as server:
        infer(server.url, random_frames())
        deadline = time.monotonic() + 60.0
        while not collector.received and time.monotonic() < deadline:  # sent in batches, every few seconds
            time.sleep(0.1)
    path, body = collector.received[0]
    assert path == "/v1/traces"
    (resource,) = body["resourceSpans"]
    assert {"key": "service.name", "value": {"stringValue": "reelkind"}} in resource["resource"]["attributes"]
    names = {span["name"] for scope in resource["scopeSpans"] for span in scope["spans"]}
    assert {"InferRequest", "classify", "tiny_pixels", "tiny_answer", "compute"} <= names


@pytest.mark.triton
def test_trace_file_holds_the_times_of_every_composing_model(triton_runtime, tmp_path):
    file = tmp_path / "trace.json"
    options = ServerOptions(tracing=Tracing(file=file))
    repository = tiny_repository.write(tmp_path / "models")
    with TritonServer(repository, runtime=triton_runtime, options=options, **FREE) as server:
        infer(server.url, random_frames())
    events = json.loads(file.read_text())
    models = {event["id"]: event["model_name"] for event in events if "model_name" in event}
    assert set(models.values()) == {"classify", "tiny_pixels", "tiny_answer"}
    stamps = {(models[event["id"]], stamp["name"]) for event in events for stamp in event.get("timestamps", ())}
    assert {("tiny_answer", "QUEUE_START"), ("tiny_answer", "COMPUTE_END")} <= stamps


def test_traces_go_to_one_place():
    for places in ({}, {"otlp_url": "http://localhost:4318/v1/traces", "file": Path("trace.json")}):
        with pytest.raises(ValueError, match="give one of the two"):
            Tracing(**places)
    with pytest.raises(ServingError, match="'localhost:4318' is no OTLP endpoint: it looks like http://host:4318/v1"):
        Tracing(otlp_url="localhost:4318")
