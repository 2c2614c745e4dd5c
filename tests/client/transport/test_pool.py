"""Several servers behind one client, all of them stand-ins that fail as told."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from standin import StandinServer

from reelkind.client import (
    AsyncClient,
    Client,
    InvalidUrl,
    ModelUnavailable,
    Prediction,
    RequestCancelled,
    RequestTimeout,
    ServerBusy,
    ServerUnavailable,
    Tls,
)
from reelkind.client.transport import (
    pool as _pool,
)
from reelkind.client.transport.address import parse_target

FRAMES = np.zeros((4, 32, 32, 3), np.uint8)
NAME = "servers.test"


@pytest.fixture
def pair() -> Iterator[tuple[StandinServer, StandinServer]]:
    """Two servers on one port, at 127.0.0.1 and 127.0.0.2, as a name with two addresses has them."""
    first, second = StandinServer(), StandinServer()
    first.start()
    second.start(port(first), host="127.0.0.2")
    yield first, second
    first.stop()
    second.stop()


@pytest.fixture
def names(pair: tuple[StandinServer, StandinServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Addresses of NAME; a test may change them."""
    addresses = ["127.0.0.1", "127.0.0.2"]

    def look_up(host: str, port: int, **options: object) -> list[tuple[object, ...]]:
        if host != NAME or not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(_pool.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(_pool, "LOOKUP_AGE_S", 0.0)
    return addresses


def port(server: StandinServer) -> int:
    return int(server.url.rpartition(":")[2])


def both(pair: tuple[StandinServer, StandinServer]) -> str:
    return ",".join(server.url for server in pair)


def asked(pair: tuple[StandinServer, StandinServer]) -> tuple[int, ...]:
    return tuple(len(server.requests) for server in pair)


def test_servers_take_turns(pair: tuple[StandinServer, StandinServer]) -> None:
    with Client(both(pair)) as client:
        for _ in range(20):
            assert isinstance(client.classify_frames(FRAMES), Prediction)
    assert sum(asked(pair)) == 20
    assert min(asked(pair)) >= 9  # handshakes take their turns, too


def test_servers_take_turns_on_an_event_loop(pair: tuple[StandinServer, StandinServer]) -> None:
    async def ask() -> None:
        async with AsyncClient(both(pair)) as client:
            await asyncio.gather(*(client.classify_frames(FRAMES) for _ in range(20)))

    asyncio.run(ask())
    assert sum(asked(pair)) == 20
    assert min(asked(pair)) >= 9  # handshakes take their turns, too


def test_a_server_that_goes_costs_no_answer(pair: tuple[StandinServer, StandinServer]) -> None:
    with Client(both(pair), retry_s=0) as client:
        client.classify_frames(FRAMES)
        pair[0].stop()
        for _ in range(20):
            assert isinstance(client.classify_frames(FRAMES), Prediction)


def test_a_server_that_goes_costs_no_answer_on_an_event_loop(pair: tuple[StandinServer, StandinServer]) -> None:
    async def ask() -> list[Prediction]:
        async with AsyncClient(both(pair), retry_s=0) as client:
            await client.classify_frames(FRAMES)
            pair[1].stop()
            return await asyncio.gather(*(client.classify_frames(FRAMES) for _ in range(20)))

    assert len(asyncio.run(ask())) == 20


def test_a_crashed_model_is_left_out(pair: tuple[StandinServer, StandinServer]) -> None:
    crashed = (grpc.StatusCode.INTERNAL, "Stub process 'backbone_0' is not healthy.")
    pair[0].failures.extend([crashed] * 50)
    with Client(both(pair), retry_s=0) as client:
        for _ in range(20):
            client.classify_frames(FRAMES)
    assert asked(pair) == (1, 20)


def test_a_full_queue_is_passed_on_and_stays_in_turn(pair: tuple[StandinServer, StandinServer]) -> None:
    pair[0].failures.append((grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"))
    with Client(both(pair), retry_s=0) as client:
        for _ in range(21):
            client.classify_frames(FRAMES)
    assert sum(asked(pair)) == 22
    assert min(asked(pair)) >= 10


def test_full_queues_everywhere_are_said(pair: tuple[StandinServer, StandinServer]) -> None:
    for server in pair:
        server.failures.append((grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"))
    with Client(both(pair), retry_s=0) as client, pytest.raises(ServerBusy):
        client.classify_frames(FRAMES)


def test_a_server_that_hangs_costs_half_the_deadline_once(pair: tuple[StandinServer, StandinServer]) -> None:
    with Client(both(pair), timeout_s=4, retry_s=0) as client:
        client.classify_frames(FRAMES)
        pair[0].hold.clear()
        started = time.monotonic()
        for _ in range(10):
            client.classify_frames(FRAMES)
        pair[0].hold.set()
    assert 2 <= time.monotonic() - started < 4


def test_a_short_deadline_leaves_nobody_out(
    pair: tuple[StandinServer, StandinServer], caplog: pytest.LogCaptureFixture
) -> None:
    with Client(both(pair), retry_s=0, timeout_s=0.5) as client:
        client.classify_frames(FRAMES)
        for server in pair:
            server.hold.clear()
        with pytest.raises(RequestTimeout):
            client.classify_frames(FRAMES)
        for server in pair:
            server.hold.set()
    assert "left out" not in caplog.text


def test_nobody_there_is_said(pair: tuple[StandinServer, StandinServer]) -> None:
    for server in pair:
        server.stop()
    with Client(both(pair), retry_s=0) as client, pytest.raises(ServerUnavailable, match=r"127\.0\.0\.[12]:"):
        client.classify_frames(FRAMES)


def test_a_member_nobody_has_is_said_and_leaves_nobody_out(
    pair: tuple[StandinServer, StandinServer], caplog: pytest.LogCaptureFixture
) -> None:
    with Client(both(pair)) as client, pytest.raises(ModelUnavailable, match="no model 'classify_nobody'"):
        client.classify_frames(FRAMES, member="nobody")
    assert "left out" not in caplog.text


def test_who_comes_back_is_asked_again(
    pair: tuple[StandinServer, StandinServer], caplog: pytest.LogCaptureFixture
) -> None:
    first = pair[0]
    with Client(both(pair), retry_s=0) as client:
        client.classify_frames(FRAMES)
        first.stop()
        while "left out" not in caplog.text:
            client.classify_frames(FRAMES)
        first.start(port(first))
        before, deadline = len(first.requests), time.monotonic() + 30
        while len(first.requests) == before:
            client.classify_frames(FRAMES)
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert f"{first.url} is back" in caplog.text


def test_a_name_is_all_its_addresses(pair: tuple[StandinServer, StandinServer], names: list[str]) -> None:
    with Client(f"dns:///{NAME}:{port(pair[0])}") as client:
        for _ in range(20):
            client.classify_frames(FRAMES)
    assert sum(asked(pair)) == 20
    assert min(asked(pair)) >= 9  # handshakes take their turns, too


def test_addresses_come_and_go(pair: tuple[StandinServer, StandinServer], names: list[str]) -> None:
    del names[1]
    with Client(f"dns:///{NAME}:{port(pair[0])}") as client:
        client.classify_frames(FRAMES)
        names[:] = ["127.0.0.2"]
        client.classify_frames(FRAMES)
        assert asked(pair) == (1, 1)
        names.clear()  # a name server that is away takes no server away
        client.classify_frames(FRAMES)
    assert asked(pair) == (1, 2)


def test_a_name_is_looked_up_by_all_who_ask_at_once(
    pair: tuple[StandinServer, StandinServer], names: list[str]
) -> None:
    async def ask() -> None:
        async with AsyncClient(f"dns:///{NAME}:{port(pair[0])}", retry_s=0) as client:
            await asyncio.gather(*(client.classify_frames(FRAMES) for _ in range(20)))

    asyncio.run(ask())
    assert sum(asked(pair)) == 20


def test_a_name_without_addresses_is_said(names: list[str]) -> None:
    with (
        Client("dns:///nobody.test:8001", retry_s=0) as client,
        pytest.raises(ServerUnavailable, match=r"nobody\.test"),
    ):
        client.classify_frames(FRAMES)


def test_certificates_are_made_out_to_the_name(names: list[str], tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="certificates are made with trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    shown = authority.issue_cert(NAME)
    key, chain = shown.private_key_pem.bytes(), shown.cert_chain_pems[0].bytes()
    server = StandinServer()
    server.start(credentials=grpc.ssl_server_credentials([(key, chain)]))
    del names[1]
    try:
        with Client(f"dns:///{NAME}:{port(server)}", tls=Tls(tmp_path / "ca.pem")) as client:
            assert isinstance(client.classify_frames(FRAMES), Prediction)
    finally:
        server.stop()


def test_a_closed_client_says_so(pair: tuple[StandinServer, StandinServer]) -> None:
    client = Client(both(pair))
    client.classify_frames(FRAMES)
    client.close()
    with pytest.raises(RequestCancelled, match="is closed"):
        client.classify_frames(FRAMES)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("a:8001,", "'' is not an address"),
        ("a:8001,b", "'b' is not an address"),
        ("a:8001,http://b:8000", "mixes protocols"),
        ("dns:///http://a:8000", "is for gRPC"),
        ("dns:///a", "'a' is not an address"),
        ("dns://8.8.8.8/a:8001", "is not an address"),
    ],
)
def test_addresses_of_no_use_are_said(url: str, words: str) -> None:
    with pytest.raises(InvalidUrl, match=words):
        parse_target(url)


def test_the_same_address_twice_is_one_server() -> None:
    assert parse_target("a:8001, a:8001").is_single
