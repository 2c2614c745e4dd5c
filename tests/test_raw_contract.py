"""docs/raw_contract.md is true: its tables are current, and its examples run as they stand against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from reelkind.core import specs

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "raw_contract.md"
TEXT = PAGE.read_text(encoding="utf-8")
CLASSES = ["animation", "gaming", "natural", "flat"]


def blocks(language: str, title: str) -> list[str]:
    """Code of one language under one heading of the page."""
    section = re.split(r"^###? ", TEXT.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 16, 224, 224, 3), np.uint8)


@pytest.fixture
def run(triton_server, frames, tmp_path):
    """Run a command in a folder with ``frames.rgb``, the port of the page being the server's."""
    (tmp_path / "frames.rgb").write_bytes(frames.tobytes())

    def execute(command: str) -> str:
        ported = command.replace("localhost:8000", urlsplit(triton_server.http_url).netloc)
        done = subprocess.run(ported, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return execute


@pytest.fixture(scope="module")
def stub(triton_server):
    with grpc.insecure_channel(triton_server.url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def probabilities(stub, frames) -> np.ndarray:
    response = stub.ModelInfer(request("classify", frames), timeout=60)
    place = [output.name for output in response.outputs].index("probabilities")
    return np.frombuffer(response.raw_output_contents[place], np.float32)


def request(
    model: str, frames: np.ndarray, datatype: str = "UINT8", num_bytes: int | None = None
) -> service_pb2.ModelInferRequest:
    made = service_pb2.ModelInferRequest(model_name=model)
    made.inputs.add(name="frames", datatype=datatype, shape=frames.shape)
    made.raw_input_contents.append(frames.tobytes()[:num_bytes])
    return made


def test_messages_of_the_page_are_those_of_triton() -> None:
    (proto,) = blocks("proto", "gRPC")
    known = {**service_pb2.DESCRIPTOR.message_types_by_name, **model_config_pb2.DESCRIPTOR.message_types_by_name}
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", proto, re.DOTALL | re.MULTILINE):
        parts = {known[name]: re.sub(r"  message .*?^  \}\n", "", body, flags=re.DOTALL | re.MULTILINE)}
        for nested, text in re.findall(r"  message (\w+) \{\n(.*?)^  \}", body, re.DOTALL | re.MULTILINE):
            parts[known[name].nested_types_by_name[nested]] = text
        for message, text in parts.items():
            fields = re.findall(r"^ +(.+) (\w+) = (\d+);$", text, re.MULTILINE)
            assert len(fields) == text.count(";") > 0
            theirs = [
                (kind_of(message.fields_by_name[name]), message.fields_by_name[name].number) for _, name, _ in fields
            ]
            assert theirs == [(kind, int(number)) for kind, _, number in fields]


def kind_of(field: FieldDescriptor) -> str:
    """A field's type as a .proto file writes it."""
    message = field.message_type
    if message is None:
        kind = next(
            name for name, value in vars(FieldDescriptor).items() if name[:5] == "TYPE_" and value == field.type
        )
        kind = kind.removeprefix("TYPE_").lower()
    elif message.GetOptions().map_entry:
        return f"map<{', '.join(kind_of(part) for part in message.fields)}>"
    else:
        kind = message.name
    return f"repeated {kind}" if field.is_repeated else kind


@pytest.mark.triton
def test_curl_examples(run, probabilities) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    (configuration,) = map(run, blocks("sh", "Handshake"))
    small, binary = map(run, blocks("sh", "HTTP"))
    assert json.loads(configuration)["parameters"]["classes"]["string_value"] == ",".join(CLASSES)
    (output,) = json.loads(small)["outputs"]
    assert (output["name"], output["shape"]) == ("probabilities", [1, 4])
    answer = {output["name"]: output["data"] for output in json.loads(binary)["outputs"]}
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-5)
    assert len(answer["attention"]) == 16


@pytest.mark.triton
def test_handshake_has_what_the_page_says_and_nothing_else(stub, triton_server) -> None:
    table = TEXT.partition("## Handshake")[2].partition("```")[0]
    documented = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    for name in triton_server.ensembles:
        config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=name)).config
        assert documented - {"abstain_below", "subcategories_learnt"} <= set(config.parameters) <= documented


@pytest.mark.triton
def test_every_model_of_the_page_is_served(triton_server, served_bundle) -> None:
    rows = re.findall(r"^\| `([\w<>]+)` \| `([\w<>]+)` \| (?:off|fast|full)", TEXT, re.MULTILINE)
    names = {name.replace("<x>", served_bundle.name) for row in rows for name in row}
    assert names == set(triton_server.ensembles)


@pytest.mark.triton
@pytest.mark.parametrize(
    ("made", "status", "words"),
    [
        pytest.param(request("classify", np.zeros((1, 1, 2, 2, 4), np.uint8)), "INVALID_ARGUMENT", "shape", id="shape"),
        pytest.param(
            request("classify", np.zeros((1, 1, 2, 2, 3), np.float32), "FP32"), "INVALID_ARGUMENT", "FP32", id="type"
        ),
        pytest.param(
            request("classify", np.zeros((1, specs.MAX_FRAMES + 1, 1, 1, 3), np.uint8)),
            "INVALID_ARGUMENT",
            "at most 300",
            id="frames",
        ),
        pytest.param(
            request("classify", np.zeros((specs.MAX_BATCH + 1, 1, 1, 1, 3), np.uint8)),
            "INVALID_ARGUMENT",
            "batch-size",
            id="videos",
        ),
        pytest.param(request("classify", np.zeros((2, 2, 2, 3), np.uint8)), "INVALID_ARGUMENT", "shape", id="rank"),
        pytest.param(
            request("classify", np.zeros((1, 1, 2, 2, 3), np.uint8), num_bytes=11),
            "INVALID_ARGUMENT",
            "byte size mismatch",
            id="bytes",
        ),
        pytest.param(request("nobody", np.zeros((1, 1, 1, 1, 3), np.uint8)), "NOT_FOUND", "unknown model", id="model"),
    ],
)
def test_errors_have_the_status_of_the_page(stub, made, status, words) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(made, timeout=30)
    assert raised.value.code().name == status
    assert words in raised.value.details()


@pytest.mark.triton
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("models/classify/infer", {"inputs": []}, 400, id="no tensor"),
        pytest.param("models/classify/infer", b"{", 500, id="no JSON"),
        pytest.param(
            "models/classify/infer",
            {"inputs": [{"name": "frames", "datatype": "UINT8", "shape": [1, 1, 2, 2, 3], "data": [1]}]},
            500,
            id="too little data",
        ),
        pytest.param("models/nobody/infer", {"inputs": []}, 404, id="model"),
        pytest.param("repository/index", {}, 403, id="restricted"),
    ],
)
def test_http_errors_have_the_status_of_the_page(triton_server, path, body, status) -> None:
    connection = HTTPConnection(urlsplit(triton_server.http_url).netloc, timeout=30)
    with closing(connection):
        connection.request("POST", f"/v2/{path}", body if isinstance(body, bytes) else json.dumps(body))
        response = connection.getresponse()
        assert (response.status, list(json.loads(response.read()))) == (status, ["error"])


@pytest.mark.triton
def test_restricted_apis_say_so(stub) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        stub.RepositoryIndex(service_pb2.RepositoryIndexRequest())
    assert (raised.value.code().name, "restricted" in raised.value.details()) == ("UNAVAILABLE", True)
