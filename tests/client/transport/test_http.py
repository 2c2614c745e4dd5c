"""HTTP against a stand-in server: the answers of gRPC, and every failure mapped."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import numpy as np
import pytest
from http_standin import HttpStandin
from standin import StandinServer, expected_probabilities

from reelkind.client import (
    AccessDenied,
    AsyncClient,
    Client,
    ClientError,
    ContractMismatch,
    ModelUnavailable,
    RequestCancelled,
    RequestRejected,
    RequestTimeout,
    RequestTooLarge,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
)

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 5, 8, 8, 3), np.uint8)


def scores(answers) -> list[list[float]]:
    return [list(answer.scores.values()) for answer in answers]


def test_answers_are_those_of_grpc(http_standin: HttpStandin, standin: StandinServer) -> None:
    with Client(http_standin.url) as client, Client(standin.url) as by_grpc:
        client.wait_until_ready(5)
        assert scores(client.classify_frames(FRAMES)) == scores(by_grpc.classify_frames(FRAMES))
        info, other = client.server_info(), by_grpc.server_info()
        assert (info.model, info.feature_dims, info.max_batch) == (other.model, other.feature_dims, other.max_batch)
        http_standin.standin.ready = False
        assert not client.is_ready()
    assert http_standin.connections == 1


def test_the_asyncio_client_speaks_http_too(http_standin: HttpStandin) -> None:
    async def ask() -> list:
        async with AsyncClient(http_standin.url) as client:
            return await asyncio.gather(*(client.classify_frames(FRAMES) for _ in range(4)))

    for answers in asyncio.run(ask()):
        np.testing.assert_allclose(scores(answers), expected_probabilities(FRAMES), rtol=1e-5)


def test_threads_share_a_client(http_standin: HttpStandin) -> None:
    with Client(http_standin.url) as client, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.classify_frames(FRAMES[0]), range(32)))
    assert len({tuple(answer.scores.values()) for answer in answers}) == 1
    assert http_standin.connections <= 4


def test_without_shared_memory_frames_go_by_the_wire(http_standin: HttpStandin) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 200, 200, 3), np.uint8)
    with Client(http_standin.url) as client:
        (found,) = scores([client.classify_frames(frames)])
    np.testing.assert_allclose(found, expected_probabilities(frames[None])[0], rtol=1e-5)


def test_headers_are_sent(http_standin: HttpStandin) -> None:
    with Client(http_standin.url, headers={"Authorization": "Bearer x"}) as client:
        client.classify_frames(FRAMES)
    assert http_standin.standin.metadata["authorization"] == "Bearer x"


def test_an_answer_that_is_cut_off_is_a_lost_connection_and_asked_for_again(http_standin: HttpStandin) -> None:
    with Client(http_standin.url) as client:
        client.classify_frames(FRAMES)
        http_standin.cut_off = 2
        np.testing.assert_allclose(scores(client.classify_frames(FRAMES)), expected_probabilities(FRAMES), rtol=1e-5)
    assert http_standin.cut_off == 0
    http_standin.cut_off = 1
    with (
        Client(http_standin.url) as client,
        pytest.raises(ServerUnavailable, match="the connection was lost in the midst of an answer"),
    ):
        client.server_info()  # of a server that has never answered before


KINDS = {
    400: RequestRejected,
    401: AccessDenied,
    403: AccessDenied,
    404: ModelUnavailable,
    408: RequestTimeout,
    413: RequestTooLarge,
    429: ServerBusy,
    499: RequestCancelled,
    500: ServerFailed,
    501: ContractMismatch,
    502: ServerUnavailable,
    503: ServerUnavailable,
    504: RequestTimeout,
}


def expected_kind(status: int) -> type[ClientError]:
    others = {3: ContractMismatch, 4: RequestRejected, 5: ServerFailed}
    return KINDS.get(status) or others.get(status // 100, ContractMismatch)


# 1xx, 204 and 304 are no answers to a POST; 200 is success.
ANSWERS = [*(int(status) for status in HTTPStatus if status > 204 and status != 304), 499, 599]


def test_every_http_status_becomes_its_error(http_standin: HttpStandin) -> None:
    with Client(http_standin.url, retry_s=0) as client:
        for status in ANSWERS:
            http_standin.failures.append((status, b'{"error": "because"}'))
            with pytest.raises(ClientError, match=f"HTTP {status}: because") as caught:
                client.classify_frames(FRAMES)
            assert type(caught.value) is expected_kind(status), status
            assert http_standin.url in str(caught.value)
    assert http_standin.connections == 1, "an answer like others: the connection goes on"


def test_a_page_not_found_is_no_missing_model(http_standin: HttpStandin) -> None:
    http_standin.failures.append((404, b"<html>nothing here</html>"))
    with Client(http_standin.url) as client, pytest.raises(ContractMismatch, match="is no Triton server"):
        client.classify_frames(FRAMES)


def test_a_full_queue_is_waited_out(http_standin: HttpStandin) -> None:
    http_standin.failures.append((503, b'{"error": "Exceeds maximum queue size"}'))
    with Client(http_standin.url) as client:
        client.classify_frames(FRAMES)
    assert len(http_standin.standin.requests) == 1


def test_an_idle_connection_that_was_closed_is_replaced(http_standin: HttpStandin) -> None:
    with Client(http_standin.url, retry_s=0) as client:
        client.classify_frames(FRAMES)
        (idle,) = client._session.transport._idle  # type: ignore[attr-defined]
        idle.sock.shutdown(socket.SHUT_RDWR)
        client.classify_frames(FRAMES)
    assert http_standin.connections == 2


def test_a_connection_that_breaks_off_is_unavailable(http_standin: HttpStandin) -> None:
    http_standin.failures.extend([(0, None)] * 3)
    with Client(http_standin.url, retry_s=0) as client, pytest.raises(ServerUnavailable, match="closed connection"):
        client.classify_frames(FRAMES)


def first(**changes: object) -> Callable:
    """Damage to what is said of the first tensor."""
    return lambda answer, data: ({"outputs": [{**answer["outputs"][0], **changes}, *answer["outputs"][1:]]}, data)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda answer, data: (b"}" * 40, data), ContractMismatch),
        (lambda answer, data: (b"\xff\xfe", data), ContractMismatch),
        (lambda answer, data: ([], data), ContractMismatch),
        (lambda answer, data: ({}, data), ContractMismatch),
        (lambda answer, data: ({"outputs": answer["outputs"][1:]}, data), ContractMismatch),
        (lambda answer, data: (answer, data[:-4]), ContractMismatch),
        (lambda answer, data: (answer, b""), ContractMismatch),
        (first(shape=[3, 5]), ContractMismatch),
        (first(shape="3, 4"), ContractMismatch),
        (first(shape=[-3, -4]), ContractMismatch),
        (first(datatype="FP99"), ContractMismatch),
        (first(datatype="BYTES"), ContractMismatch),
        (first(parameters={}), ContractMismatch),
        (first(parameters={"binary_data_size": 1 << 40}), ContractMismatch),
        (lambda answer, data: (answer, np.full(len(data) // 4, np.nan, np.float32).tobytes()), ServerFailed),
    ],
    ids=[
        *("no-json", "no-text", "a-list", "empty", "missing", "cut", "no-bytes", "other-shape", "shape-of-text"),
        *("negative-shape", "unknown-type", "text", "no-size", "huge-size", "not-a-number"),
    ],
)
def test_damaged_answers_are_noticed(http_standin: HttpStandin, damage: Callable, error: type[ClientError]) -> None:
    http_standin.damage = damage
    with Client(http_standin.url) as client, pytest.raises(error, match=http_standin.url):
        client.classify_frames(FRAMES)


def test_silence_is_a_timeout(http_standin: HttpStandin) -> None:
    with Client(http_standin.url) as client:
        client.server_info()
        client._session._timeout_s = 0.3
        http_standin.standin.hold.clear()
        started = time.monotonic()
        with pytest.raises(RequestTimeout, match="raise the timeout"):
            client.classify_frames(FRAMES)
        assert time.monotonic() - started < 15


def test_a_drip_of_an_answer_ends_with_the_deadline() -> None:
    def drip() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            try:
                while not over.wait(0.05):
                    connection.sendall(b"{")
            except OSError:  # the client has left
                pass

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        dripping = threading.Thread(target=drip)
        dripping.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, timeout_s=0.4, retry_s=0) as client, pytest.raises(RequestTimeout):
            client.server_info()
        over.set()
        dripping.join()


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        (b"", ServerUnavailable, "closed connection"),
        (b"\x00\x00\x12\x04", ContractMismatch, "this is no HTTP port"),
        (b"SSH-2.0-x\r\n", ContractMismatch, "this is no HTTP port"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ServerUnavailable, "the connection was lost"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{", ServerUnavailable, "the connection was lost"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", ContractMismatch, "is it the port of metrics, not of HTTP"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000, ContractMismatch, "cannot be read: maximum recursion depth"),
    ],
    ids=["nothing", "http2", "ssh", "cut-off-head", "cut-off-chunk", "metrics", "too-deep"],
)
def test_what_no_server_should_say_is_no_traceback(said: bytes, error: type[ClientError], message: str) -> None:
    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, retry_s=0) as client, pytest.raises(error, match=message):
            client.server_info()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid:8000"], ids=["closed-port", "no-name"])
def test_nobody_there_is_unavailable(url: str) -> None:
    with Client(url) as client, pytest.raises(ServerUnavailable, match=f"no server answers at {url}"):
        client.classify_frames(FRAMES)


def test_closing_ends_calls_under_way(http_standin: HttpStandin) -> None:
    http_standin.standin.hold.clear()
    client = Client(http_standin.url)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.classify_frames, FRAMES)
        while not (http_standin.standin.requests or waiting.done()):
            time.sleep(0.005)
        client.close()
        with pytest.raises(RequestCancelled, match="is closed"):
            waiting.result(60)
    with pytest.raises(RequestCancelled):
        client.classify_frames(FRAMES)
