"""The KServe v2 protocol over HTTP with its binary extension, through the standard library.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from reelkind.core.files.server_keys import KEY_HEADER, known_key

from .address import Address, Tls
from .binary import describe, read_tensors
from .errors import (
    ClientError,
    ContractMismatch,
    ModelUnavailable,
    RequestCancelled,
    RequestRejected,
    ServerFailed,
    from_http,
    from_status,
)
from .transport import Array, Blocking, Looping, ModelConfig, Reply, Waiting

JSON_LENGTH = "Inference-Header-Content-Length"
READ_BYTES = 1 << 20

_STALE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""Of an idle connection that the server had closed meanwhile: the next one is tried."""


class _Http(Waiting):
    """One exchange at a time on a connection; as many connections as there are exchanges at a time."""

    max_request_bytes = 1 << 26  # 64 MiB, --http-max-input-size of tritonserver unless configured otherwise

    def __init__(self, address: Address, headers: dict[str, str], tls: Tls | None) -> None:
        self._address, self._url, self._headers = address, address.url, headers
        self._context = None if tls is None else tls.context
        self._closed = False
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    async def config(self, model: str, timeout_s: float) -> ModelConfig:
        raw = await self._ask("GET", f"{_path(model)}/config", timeout_s)
        if raw is None:
            raise ContractMismatch(f"{self._url} answers, but with nothing: is it the port of metrics, not of HTTP?")
        try:
            return ModelConfig(
                name=raw["name"],
                max_batch=max(1, int(raw.get("max_batch_size", 1))),
                inputs=tuple(tensor["name"] for tensor in raw.get("input", ())),
                outputs=tuple(tensor["name"] for tensor in raw.get("output", ())),
                parameters={name: value.get("string_value", "") for name, value in raw.get("parameters", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(f"the config of {model!r}", error) from error

    async def is_ready(self, model: str, timeout_s: float) -> bool:
        try:
            await self._ask("GET", "/v2/health/ready", timeout_s)
            await self._ask("GET", f"{_path(model)}/ready", timeout_s)
        except (RequestRejected, ModelUnavailable, ContractMismatch):  # 400 and 404 mean: not yet
            return False
        return True

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        timeout_s: float,
        region: str | None = None,
    ) -> Reply:
        request = {
            "inputs": describe(inputs, region),
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        }
        data = () if region is not None else tuple(inputs.values())
        path = f"{_path(model)}/infer"
        head, body = await self._send("POST", path, timeout_s, request, data, extra=self._owner())
        try:
            answer = json.loads(body[:head])
            found = read_tensors(answer["outputs"], body[head:])
            version = str(answer.get("model_version", ""))
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise self._damaged("its tensors", error) from error
        missing = set(outputs) - set(found)
        if missing:
            raise ContractMismatch(f"{self._url} answered without the tensor {', '.join(sorted(missing))}")
        return Reply({name: found[name] for name in outputs}, version)

    async def register(self, region: str, num_bytes: int, timeout_s: float) -> None:
        request = {"key": f"/{region}", "offset": 0, "byte_size": num_bytes}
        path = f"/v2/systemsharedmemory/region/{region}/register"
        await self._ask("POST", path, timeout_s, request, self._owner())

    async def unregister(self, region: str, timeout_s: float) -> None:
        path = f"/v2/systemsharedmemory/region/{region}/unregister"
        await self._ask("POST", path, timeout_s, extra=self._owner())

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            for connection in self._busy:  # wakes the threads that wait on them
                with suppress(OSError, AttributeError):
                    connection.sock.shutdown(socket.SHUT_RDWR)

    def _owner(self) -> dict[str, str]:
        """Headers of what a server on this machine does for its owner only."""
        key = known_key(self._address.port) if self._address.is_local else None
        return {} if key is None else {KEY_HEADER: key}

    async def _ask(
        self, method: str, path: str, timeout_s: float, request: object = None, extra: Mapping[str, str] | None = None
    ) -> Any:
        """An exchange of JSON, with ``extra`` headers."""
        _, body = await self._send(method, path, timeout_s, request, extra=extra)
        try:
            return json.loads(body) if body else None
        except (ValueError, RecursionError) as error:
            raise self._damaged("its answer", error) from error

    async def _send(
        self,
        method: str,
        path: str,
        timeout_s: float,
        request: object = None,
        data: Sequence[Array] = (),
        extra: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One exchange: length of the JSON at the beginning of the answer, and the whole answer."""
        return await self.offload(self._exchange, method, path, timeout_s, request, data, extra or {})

    def _exchange(
        self,
        method: str,
        path: str,
        timeout_s: float,
        request: object,
        data: Sequence[Array],
        extra: Mapping[str, str],
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + timeout_s
        parts = [] if request is None else [json.dumps(request).encode()]
        headers = {**self._headers, **extra, **({JSON_LENGTH: str(len(parts[0]))} if data else {})}
        body = [*parts, *(array.data.cast("B") for array in data)]
        headers["Content-Length"] = str(sum(map(len, body)))
        while True:
            connection, fresh = self._connection()
            try:
                status, head, answer = self._on(connection, method, path, headers, body, deadline)
                break
            except BaseException as error:
                with self._lock:
                    self._busy.discard(connection)
                connection.close()
                if not isinstance(error, Exception):
                    raise
                if fresh or self._closed or not isinstance(error, _STALE):
                    raise self._mapped(error) from error
        if status != http.client.OK:
            raise from_http(status, _said(answer), self._url)
        return head, answer

    def _on(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: dict[str, str],
        body: list[Any],
        deadline: float,
    ) -> tuple[int, int, bytes]:
        """Status, length of the JSON at the beginning of the answer, and the whole answer."""
        _limit(connection, deadline)
        connection.request(method, self._address.path + path, body=iter(body), headers=headers)
        _limit(connection, deadline)
        response = connection.getresponse()
        received = bytearray()
        while chunk := response.read1(READ_BYTES):
            received += chunk
            _limit(connection, deadline)
        if _is_cut_off(response, received):
            raise http.client.IncompleteRead(bytes(received), response.length)
        response.close()  # else the connection takes no further request
        head = int(response.getheader(JSON_LENGTH) or len(received))
        with self._lock:
            self._busy.discard(connection)
            if not response.will_close and not self._closed:
                self._idle.append(connection)  # the last use of it here: another thread may take it at once
        return response.status, head, bytes(received)

    def _connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """An idle connection, or a new one, and whether it is new."""
        host, port = self._address.host.strip("[]"), self._address.port
        with self._lock:
            if self._closed:
                raise RequestCancelled(f"the client of {self._url} is closed")
            fresh = not self._idle
            if not fresh:
                connection = self._idle.pop()
            elif self._context is not None:
                connection = http.client.HTTPSConnection(host, port, context=self._context)
            else:
                connection = http.client.HTTPConnection(host, port)
            self._busy.add(connection)
            return connection, fresh

    def _mapped(self, error: Exception) -> ClientError:
        if self._closed:
            return RequestCancelled(f"the client of {self._url} is closed")
        if isinstance(error, ClientError):
            return error
        if isinstance(error, TimeoutError):
            return from_status("DEADLINE_EXCEEDED", "", self._url)
        if isinstance(error, ssl.SSLError):
            return from_status("UNAVAILABLE", f"TLS handshake failed: {error}", self._url)
        if isinstance(error, OSError):
            said = getattr(error, "strerror", None) or str(error)
            if isinstance(error, ConnectionResetError | BrokenPipeError) and self._context is not None:
                said += ": perhaps it asks for a certificate"
            return from_status("UNAVAILABLE", said, self._url)
        if isinstance(error, http.client.IncompleteRead):
            return from_status("UNAVAILABLE", "the connection was lost in the midst of an answer", self._url)
        if isinstance(error, http.client.HTTPException):
            return from_status("UNIMPLEMENTED", "this is no HTTP port: leave out http:// for gRPC", self._url)
        return ServerFailed(f"the request to {self._url} failed: {type(error).__name__}: {error}")

    def _damaged(self, what: str, error: Exception) -> ContractMismatch:
        return ContractMismatch(f"{self._url} answered, but {what} cannot be read: {error}")


class BlockingHttp(Blocking, _Http):
    """Waits in the calling thread; threads may share it."""


class AsyncHttp(Looping, _Http):
    """Waits in a thread for each exchange."""


def _path(model: str) -> str:
    return f"/v2/models/{quote(model, safe='')}"


def _limit(connection: http.client.HTTPConnection, deadline: float) -> None:
    """Give the next step on a connection what remains of the time."""
    remaining_s = deadline - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    connection.timeout = remaining_s
    if connection.sock is not None:
        connection.sock.settimeout(remaining_s)


def _is_cut_off(response: http.client.HTTPResponse, received: bytearray) -> bool:
    """Whether the connection ended before the answer, which the library says of chunks only."""
    if response.length is None:  # in chunks, or to the end of the connection: of a cut head nothing follows
        return not (received or response.chunked)
    return response.length > 0


def _said(body: bytes) -> str | None:
    """What Triton says of an error; None if it was not Triton."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
