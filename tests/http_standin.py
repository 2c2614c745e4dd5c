"""The stand-in server over HTTP: the same answers, and whatever status, silence or damage a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from standin import StandinServer
from tritonclient.grpc import service_pb2


class _Aborted(Exception):
    """As grpc's, which ends a call."""


class _Context:
    """What the stand-in uses of grpc's context."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def invocation_metadata(self):
        return self._headers.items()

    def is_active(self) -> bool:
        return True

    def abort(self, status: grpc.StatusCode, message: str) -> None:
        raise _Aborted(message)


class HttpStandin:
    """Attributes a test may change at any time.

    Attributes:
        url: where it listens, with ``http://`` or ``https://``.
        standin: makes the answers.
        failures: (status, body) for the next inference requests, one each; a body of None closes the connection.
        damage: what is made of each answer: (JSON, bytes) to both.
        cut_off: how many of the next answers end in their middle.
        connections: how many were opened.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.standin = StandinServer()
        self.failures: deque[tuple[int, bytes | None]] = deque()
        self.damage = lambda answer, data: (answer, data)
        self.cut_off = 0
        self.connections = 0
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if context is not None:
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02])
        self._thread.start()

    def stop(self) -> None:
        self.standin.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address) -> None:
        """Nothing on stderr: clients that break off are what is tested."""


def _handler(server: HttpStandin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 10

        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            if self.path.endswith("/config"):
                self._config(self.path.split("/")[-2])
            else:
                self._reply(200 if server.standin.ready else 400, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "/systemsharedmemory/" in self.path:
                self._reply(400, b'{"error": "there is no shared memory"}')
                return
            if server.failures:
                status, said = server.failures.popleft()
                if said is None:
                    self.close_connection = True
                    return
                self._reply(status, said)
                return
            with suppress(_Aborted):
                self._infer(body)

        def _config(self, model: str) -> None:
            try:
                config = server.standin.ModelConfig(service_pb2.ModelConfigRequest(name=model), _Context({})).config
            except _Aborted as error:
                self._reply(404, json.dumps({"error": str(error)}).encode())
                return
            self._reply(200, json.dumps(MessageToDict(config, preserving_proto_field_name=True)).encode())

        def _infer(self, body: bytes) -> None:
            length = int(self.headers["Inference-Header-Content-Length"])
            asked = json.loads(body[:length])
            request = service_pb2.ModelInferRequest(model_name=self.path.split("/")[-2])
            for tensor in asked["inputs"]:
                request.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
                end = length + tensor["parameters"]["binary_data_size"]
                request.raw_input_contents.append(body[length:end])
                length = end
            for tensor in asked["outputs"]:
                request.outputs.add(name=tensor["name"])
            response = server.standin.ModelInfer(request, _Context({k.lower(): v for k, v in self.headers.items()}))
            tensors = [
                {"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "parameters": {"binary_data_size": n}}
                for t, n in zip(response.outputs, map(len, response.raw_output_contents), strict=True)
            ]
            answer, data = server.damage(
                {"model_version": response.model_version, "outputs": tensors}, b"".join(response.raw_output_contents)
            )
            head = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self._reply(200, head + data, {"Inference-Header-Content-Length": str(len(head))})

        def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if server.cut_off:
                server.cut_off -= 1
                self.close_connection = True
                body = body[: len(body) // 2]
            self.wfile.write(body)

    return Handler


@pytest.fixture
def http_standin() -> Iterator[HttpStandin]:
    """A stand-in server that speaks HTTP on a free port."""
    server = HttpStandin()
    yield server
    server.stop()
