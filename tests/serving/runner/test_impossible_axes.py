"""Requests whose axes no memory holds, to a real tritonserver: refused by a sentence, and no process ends."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from reelkind.serving.server import TritonServer

from .. import tiny_repository
from ..tiny_repository import expected_probabilities, infer, random_frames

pytestmark = pytest.mark.triton

Request = tuple[str, str, str, list[int]]  # model, tensor, datatype, shape; no data

REQUESTS = [
    pytest.param(("classify", "frames", "UINT8", [1, 2**62, 4, 1, 3]), id="one axis times 2^64"),
    pytest.param(("classify", "frames", "UINT8", [1, 2**32, 2**32, 1, 3]), id="two axes"),
    pytest.param(("classify", "frames", "UINT8", [1, 2**21, 2**21, 2**22, 3]), id="three axes"),
    pytest.param(("classify", "frames", "UINT8", [1, 2**62, 0, 4, 3]), id="beside an empty axis"),
    pytest.param(("classify", "frames", "UINT8", [8, 2**61, 1, 1, 3]), id="times the batch"),
    pytest.param(("tiny_answer", "features", "FP32", [4, 1, 2**62, 3]), id="features"),
]


def by_grpc(server: TritonServer, request: Request) -> str:
    model, name, datatype, shape = request
    message = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[b""])
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    with grpc.insecure_channel(server.url) as channel, pytest.raises(grpc.RpcError) as raised:
        service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message, timeout=20)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(raised.value.details())


def by_http_json(server: TritonServer, request: Request) -> str:
    return post(server, request, {"data": []}, binary=False)


def by_http_binary(server: TritonServer, request: Request) -> str:
    return post(server, request, {"parameters": {"binary_data_size": 0}}, binary=True)


def post(server: TritonServer, request: Request, data: dict[str, object], *, binary: bool) -> str:
    model, name, datatype, shape = request
    body = json.dumps({"inputs": [{"name": name, "datatype": datatype, "shape": shape, **data}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(body))} if binary else {}
    url = f"{server.http_url}/v2/models/{model}/infer"
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=20)  # loopback
    assert raised.value.code == 400
    return raised.value.read().decode()


@pytest.fixture(scope="module")
def server(triton_runtime, tmp_path_factory):
    repository = tiny_repository.write(tmp_path_factory.mktemp("models"))
    with TritonServer(repository, runtime=triton_runtime, grpc_port=0, http_port=0, metrics_port=0) as running:
        yield running


@pytest.mark.parametrize("send", [by_grpc, by_http_json, by_http_binary])
@pytest.mark.parametrize("request_", REQUESTS)
def test_impossible_axes_are_refused_and_no_process_ends(
    server: TritonServer, send: Callable[[TritonServer, Request], str], request_: Request
) -> None:
    before = sorted(server.process_ids())
    assert "has axes whose product no memory holds" in send(server, request_)
    frames = random_frames()
    np.testing.assert_allclose(infer(server.url, frames), expected_probabilities(frames), atol=1e-6)
    assert sorted(server.process_ids()) == before
