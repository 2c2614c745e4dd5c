"""Requests that no well-behaved client sends, by a seeded generator: gRPC as bytes, HTTP as what a socket carries."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from reelkind.benchmarks.reliability import mutations
from reelkind.core import specs, tensors

SERVICE = "/inference.GRPCInferenceService/"
INFER = f"{SERVICE}ModelInfer"
GOOD_SHAPE = (1, 2, 32, 32, 3)
MOST_AXIS_BYTES = 1 << 20  # what a request of honest axes may hold

# Whatever 64 bits make of them; products of some are 0 or small.
AXES = (
    *(0, 1, 2, 3, 4, 5, 7, 16, 32, 300, 301, 1888),
    *(-1, -2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 2**61, 2**62, 2**63 - 1, -(2**31), -(2**62), -(2**63)),
)
DATATYPES = ("UINT8", "INT8", "FP32", "FP16", "FP64", "BF16", "BOOL", "BYTES", "INT64", "UINT64", "", "uint8", "FP999")
NAMES = (tensors.FRAMES.name, "features", "FRAMES", "", "x" * 300, "frames\0", "../frames", "größe")
MODELS = (
    *(specs.classify_name(), specs.features_name(), specs.classify_features_name(), "backbone_lite", "head_lite"),
    *("preprocess", "temporal_lite", "average_lite", "nobody", "", "../classify", "classify\0", "x" * 1000, "*"),
)
VERSIONS = ("", "", "", "1", "0", "-1", "2", "99999999999999999999", "one")
PARAMETERS = (
    *("timeout", "priority", "sequence_id", "sequence_start", "shared_memory_region", "shared_memory_offset"),
    *("shared_memory_byte_size", "binary_data_size", "binary_data_output", "classification", "binary_data"),
    *("triton_enable_empty_final_response", "triton_x", "anything", ""),
)
VALUES: tuple[Any, ...] = (*(0, 1, -1, 2**31, 2**62, -(2**63), True, False), *("", "1", "nobody", "x" * 200))
METHODS = (
    *("ModelInfer", "ModelMetadata", "ModelConfig", "ModelReady", "ModelStatistics", "ServerMetadata"),
    *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "SystemSharedMemoryStatus"),
    *("SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryRegister"),
    *("TraceSetting", "LogSettings", "NoSuchMethod"),
)


@dataclass(frozen=True)
class Message:
    """One.

    Attributes:
        wire: ``"grpc"`` or ``"http"``.
        method: of gRPC, with its service; empty of HTTP.
        content: serialised message, or everything that goes through the socket.
        kind: what was done.
    """

    wire: str
    method: str
    content: bytes
    kind: str


def good_request(rng: np.random.Generator) -> Any:
    """A ``ModelInferRequest`` that is answered: one video of two small frames."""
    request = service_pb2.ModelInferRequest(model_name=specs.classify_name())
    request.inputs.add(name=tensors.FRAMES.name, datatype="UINT8", shape=GOOD_SHAPE)
    request.raw_input_contents.append(rng.bytes(int(np.prod(GOOD_SHAPE))))
    return request


def odd_axes(rng: np.random.Generator) -> list[int]:
    """A shape, most often of five axes."""
    length = int(rng.choice((0, 1, 2, 3, 4, 5, 6, 40), p=(0.03, 0.05, 0.05, 0.07, 0.2, 0.5, 0.08, 0.02)))
    chosen = [int(AXES[int(rng.integers(len(AXES)))]) for _ in range(length)]
    if length == len(GOOD_SHAPE) and rng.random() < 0.7:  # sound but for one or two
        wrong = {int(each) for each in rng.integers(0, length, 2)}
        chosen = [axis if at in wrong else good for at, (axis, good) in enumerate(zip(chosen, GOOD_SHAPE, strict=True))]
    return chosen


def axes(rng: np.random.Generator) -> Message:
    """Axes that cannot be, with as many bytes as 64 bits make of them, or as before."""
    request = good_request(rng)
    if rng.random() < 0.3:
        request.model_name = str(rng.choice(MODELS[:8]))
        request.inputs[0].name, request.inputs[0].datatype = str(rng.choice(NAMES[:2])), str(rng.choice(DATATYPES[:3]))
    del request.inputs[0].shape[:]
    request.inputs[0].shape.extend(odd_axes(rng))
    product = 1
    for axis in request.inputs[0].shape:
        product = product * axis % 2**64
    num_bytes = product if product <= MOST_AXIS_BYTES else 0
    if rng.random() < 0.8:
        request.raw_input_contents[0] = bytes(num_bytes)
    return _infer(request, "axes")


def contents(rng: np.random.Generator) -> Message:
    """Other bytes than the shape says: fewer, more, none, twice, or in typed fields."""
    request = good_request(rng)
    raw = request.raw_input_contents[0]
    way = int(rng.integers(6))
    if way < 3:
        request.raw_input_contents[0] = (raw[: int(rng.integers(len(raw)))], raw + rng.bytes(7), b"")[way]
    elif way == 3:
        request.raw_input_contents.append(raw)
    else:
        if way == 4:
            del request.raw_input_contents[:]
        field = str(rng.choice(("bool", "int", "int64", "uint", "uint64", "fp32", "fp64")))
        getattr(request.inputs[0].contents, f"{field}_contents").extend([1] * int(rng.integers(0, 7000)))
        request.inputs[0].contents.bytes_contents.extend([b"x" * int(rng.integers(9))] * int(rng.integers(3)))
    return _infer(request, "contents")


def names(rng: np.random.Generator) -> Message:
    """Models, versions, tensors, types, outputs and parameters that there are not."""
    request = good_request(rng)
    for change in rng.choice(6, int(rng.integers(1, 4)), replace=False):
        if change == 0:
            request.model_name = str(rng.choice(MODELS))
        elif change == 1:
            request.model_version = str(rng.choice(VERSIONS))
        elif change == 2:
            request.inputs[0].name = str(rng.choice(NAMES))
        elif change == 3:
            request.inputs[0].datatype = str(rng.choice(DATATYPES))
        elif change == 4:
            request.outputs.add(name=str(rng.choice((*NAMES, "probabilities"))))
        else:
            request.inputs.append(request.inputs[0])
    return _infer(request, "names")


def parameters(rng: np.random.Generator) -> Message:
    """Parameters of a request, an input or an output."""
    request = good_request(rng)
    request.outputs.add(name="probabilities")
    for place in (request, request.inputs[0], request.outputs[0]):
        for _ in range(int(rng.integers(3))):
            value = VALUES[int(rng.integers(len(VALUES)))]
            kind = (
                "bool_param" if isinstance(value, bool) else "int64_param" if isinstance(value, int) else "string_param"
            )
            setattr(place.parameters[str(rng.choice(PARAMETERS))], kind, value)
    return _infer(request, "parameters")


def protobuf(rng: np.random.Generator) -> Message:
    """The bytes of a sound message, damaged as those of files are."""
    data = good_request(rng).SerializeToString()
    change = mutations.MUTATIONS[int(rng.integers(len(mutations.MUTATIONS)))]
    return Message("grpc", INFER, change(rng, data, data)[: 1 << 20], "protobuf")


def methods(rng: np.random.Generator) -> Message:
    """Other calls, with messages that are not theirs."""
    name = str(rng.choice(METHODS))
    kind = getattr(service_pb2, f"{name}Request", None)
    if kind is None or rng.random() < 0.3:
        return Message("grpc", SERVICE + name, rng.bytes(int(rng.integers(0, 200))), "methods")
    request = kind()
    for field in request.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING and rng.random() < 0.7:
            value = str(rng.choice((*MODELS, "/nobody_has_this", "/", "..")))
            if not hasattr(getattr(request, field.name), "append"):
                setattr(request, field.name, value)
        elif field.type in (field.TYPE_UINT64, field.TYPE_INT64) and rng.random() < 0.7:
            setattr(request, field.name, int(rng.choice((0, 1, 4096, 2**31, 2**62))))
    return Message("grpc", SERVICE + name, request.SerializeToString(), "methods")


def json_body(rng: np.random.Generator) -> Message:
    """An HTTP request whose JSON is odd or damaged."""
    shape = odd_axes(rng)
    size = math.prod(map(float, shape))  # perhaps infinite
    data: Any = [0] * int(size) if 0 <= size <= 7000 else rng.choice((0, 1)) * [1]
    tensor = {"name": str(rng.choice(NAMES)), "datatype": str(rng.choice(DATATYPES)), "shape": shape, "data": data}
    body: Any = {"inputs": [tensor]}
    way = int(rng.integers(8))
    if way == 0:
        body = [body, {}, {"inputs": {}}, {"inputs": [[]]}, {"inputs": None}, 1, None, "x"][int(rng.integers(8))]
    elif way == 1:
        tensor["shape"] = [{}, [[1]], "1", [1.5], [1e300], ["1"], None][int(rng.integers(7))]
    elif way == 2:
        tensor["data"] = [[[[[0]]]], {"a": 1}, "AAAA", [None], ["x"], [1e400], [[0], 0]][int(rng.integers(7))]
    elif way == 3:
        body["parameters"] = {str(rng.choice(PARAMETERS)): VALUES[int(rng.integers(len(VALUES)))] for _ in range(3)}
    text = json.dumps(body).encode()
    if way > 5:
        text = mutations.mutate(int(rng.integers(2**31)), 0, text, b"[" * 20_000)[0][: 1 << 20]
    return _post(rng, text, {}, "JSON")


def binary_body(rng: np.random.Generator) -> Message:
    """An HTTP request with tensors behind its JSON, whose sizes lie."""
    raw = rng.bytes(int(np.prod(GOOD_SHAPE)))
    shape = list(GOOD_SHAPE) if rng.random() < 0.5 else odd_axes(rng)
    size = int(rng.choice((len(raw), len(raw), 0, 1, len(raw) + 1, -1, 2**31, 2**62)))
    tensor = {"name": "frames", "datatype": "UINT8", "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    length = rng.choice((str(len(head)), str(len(head)), "0", "-1", str(len(head) + 5), "99999999999", "x", ""))
    return _post(rng, head + raw, {"Inference-Header-Content-Length": str(length)}, "binary")


def packed_body(rng: np.random.Generator) -> Message:
    """A compressed HTTP request, sound, cut off, damaged, or of another kind than it says."""
    text = json.dumps({"inputs": [{"name": "frames", "datatype": "UINT8", "shape": [1, 1, 1, 1, 3], "data": [0] * 3}]})
    packed = gzip.compress(text.encode()) if rng.random() < 0.5 else zlib.compress(text.encode())
    if rng.random() < 0.7:
        packed = mutations.mutate(int(rng.integers(2**31)), 0, packed, packed)[0][: 1 << 16]
    return _post(rng, packed, {"Content-Encoding": str(rng.choice(("gzip", "deflate", "br", "")))}, "compressed")


def http_framing(rng: np.random.Generator) -> Message:
    """What is hardly HTTP: lengths that lie, chunks, methods, paths and headers of any kind."""
    body = b'{"inputs": []}'
    length = str(rng.choice((str(len(body)), "0", "5", "1000000", "-1", "x", "18446744073709551616", "0x10")))
    path = str(
        rng.choice(
            (
                *("/v2/models/classify/infer", "/v2/models/nobody/infer", "/v2/models//infer", "/v2/../../etc/passwd"),
                *(
                    "/v2/models/classify/versions/-1/infer",
                    "/v2/repository/models/classify/unload",
                    "/",
                    "*",
                    "/v2/%00",
                ),
                *("/v2/systemsharedmemory/region/x/register", "/v2/health/ready", "/v2/models/classify/generate"),
                "/" + "x" * 9000,
            )
        )
    )
    method = str(rng.choice(("POST", "GET", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "\0", "x" * 500)))
    head = f"{method} {path} HTTP/{rng.choice(('1.1', '1.0', '9.9', ''))}\r\nHost: x\r\nContent-Length: {length}\r\n"
    if rng.random() < 0.2:
        head += "Transfer-Encoding: chunked\r\n"
        body = bytes(rng.choice((b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"zz\r\n")))
    if rng.random() < 0.2:
        head += "".join(f"X-{number}: {'y' * int(rng.integers(200))}\r\n" for number in range(int(rng.integers(400))))
    content = head.encode() + b"\r\n" + body
    if rng.random() < 0.3:
        content = mutations.mutate(int(rng.integers(2**31)), 0, content, content)[0][: 1 << 16]
    return Message("http", "", content, "framing")


KINDS: tuple[Callable[[np.random.Generator], Message], ...] = (
    *(axes, axes, contents, names, parameters, protobuf, protobuf, methods),
    *(json_body, binary_body, packed_body, http_framing),
)
"""What is drawn from; what finds most comes twice."""


WIRES = {kind.__name__: "grpc" if number < 8 else "http" for number, kind in enumerate(KINDS)}
"""How each kind goes."""


def message(seed: int, number: int, kinds: Sequence[Callable[[np.random.Generator], Message]] = KINDS) -> Message:
    """The message of a number, of these kinds by turns."""
    rng = np.random.default_rng([seed, number])
    return kinds[number % len(kinds)](rng)


def known_killers() -> Sequence[Message]:
    """Messages that have once ended a process of a model."""
    found = []
    for shape in ([1, 2**62, 4, 1, 3], [1, 2**32, 2**32, 1, 3], [1, 2**62, 0, 4, 3], [4, 2**62, 1, 1, 3]):
        request = service_pb2.ModelInferRequest(model_name=specs.classify_name(), raw_input_contents=[b""])
        request.inputs.add(name=tensors.FRAMES.name, datatype="UINT8", shape=shape)
        found.append(_infer(request, "killers"))
        text = json.dumps({"inputs": [{"name": "frames", "datatype": "UINT8", "shape": shape, "data": []}]}).encode()
        found.append(_post(np.random.default_rng(0), text, {}, "killers"))
    return found


def _infer(request: Any, kind: str) -> Message:
    return Message("grpc", INFER, request.SerializeToString(), kind)


def _post(rng: np.random.Generator, body: bytes, headers: dict[str, str], kind: str) -> Message:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    path = f"/v2/models/{rng.choice(('classify', 'classify', 'classify', 'preprocess', 'head_lite', 'nobody'))}/infer"
    head = "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", *lines]
    )
    return Message("http", "", head.encode() + b"\r\n\r\n" + body, kind)
