"""Frames through shared memory: the same answers as by the wire, whatever happens to the regions, and none left."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from standin import StandinServer, expected_probabilities
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2

from reelkind.client import AsyncClient, Client, Prediction, RequestCancelled, RequestTimeout
from reelkind.client.transport import shared_memory
from reelkind.client.transport.transport import finish, offsets
from reelkind.core.files.server_keys import KEY_HEADER
from reelkind.core.specs import classify_features_name, features_name

if TYPE_CHECKING:
    from reelkind.core.bundle import Bundle
    from reelkind.serving.server import TritonServer

FRAMES = np.random.default_rng(0).integers(0, 256, (3, 4, 224, 224, 3), np.uint8)
LONG = np.concatenate([FRAMES[0]] * 4)  # takes long enough to be given up, and is over before a client is closed
LEAKY = """
import sys, numpy as np
from reelkind.client import Client
client = Client(sys.argv[1], timeout_s=120)
client.classify_frames(np.zeros((4, 224, 224, 3), np.uint8))
print(len(client._session._regions._idle), flush=True)
if sys.argv[2] == "kill":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


def files(pid: int | None = None) -> list[str]:
    """Regions of one process, this one by default: other clients on this machine have their own."""
    return [path.name for path in Path("/dev/shm").glob(f"{shared_memory.PREFIX}{pid or os.getpid()}-*")]


def scores(client: Client, frames: np.ndarray) -> list[float]:
    prediction = client.classify_frames(frames)
    assert isinstance(prediction, Prediction)
    return list(prediction.scores.values())


def owner(server: TritonServer) -> dict[str, str]:
    return {f"triton-grpc-protocol-{KEY_HEADER}": server.key}


def known(server: TritonServer) -> list[str]:
    with triton.InferenceServerClient(server.url) as client:
        return list(client.get_system_shared_memory_status(headers=owner(server)).regions)


@pytest.fixture(autouse=True)
def _no_region_is_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shared_memory, "TIMEOUT_S", 60.0)  # the server may be slow to let go of a region
    if "triton_server" in request.fixturenames:
        server = request.getfixturevalue("triton_server")
        with triton.InferenceServerClient(server.url) as client:
            client.unregister_system_shared_memory(headers=owner(server))  # of tests that failed
    gc.collect()
    before = files()
    yield
    assert files() == before


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_answers_are_those_of_the_wire_and_nothing_stays_behind(triton_server: TritonServer, protocol: str) -> None:
    url = triton_server.url if protocol == "grpc" else triton_server.http_url
    with (
        Client(url, timeout_s=120) as client,
        Client(url, timeout_s=120, shared_memory=False) as wired,
    ):
        for video in (*FRAMES, FRAMES[0, :2], np.concatenate(FRAMES)):  # smaller, then larger than the first region
            assert scores(client, video) == scores(wired, video)
        assert len(files()) == len(client._session._regions._idle) == len(known(triton_server)) == 1
        assert wired._session._regions._idle == []
    assert (files(), known(triton_server)) == ([], [])


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_without_the_key_nothing_is_registered_and_tensors_go_by_the_wire(
    triton_server: TritonServer, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # as another user, who cannot read the owner's file
    url = triton_server.url if protocol == "grpc" else triton_server.http_url
    with Client(url, timeout_s=120) as client, Client(url, timeout_s=120, shared_memory=False) as wired:
        assert scores(client, FRAMES[0]) == scores(wired, FRAMES[0])
        assert (files(), known(triton_server)) == ([], [])
        assert client._session._regions._usable is False


@pytest.mark.triton
def test_what_the_server_leaves_in_shared_memory_is_its_owners_alone(triton_server: TritonServer) -> None:
    regions = list(Path("/dev/shm").glob(f"{triton_server._tree.shm_prefix}*"))
    assert regions
    assert {stat.S_IMODE(region.stat().st_mode) & 0o077 for region in regions} == {0}


@pytest.mark.triton
def test_threads_have_regions_of_their_own(triton_server: TritonServer) -> None:
    with Client(triton_server.url, timeout_s=120) as client, ThreadPoolExecutor(2) as pool:
        alone = [scores(client, video) for video in FRAMES]
        together = list(pool.map(lambda index: scores(client, FRAMES[index % 3]), range(12)))
        assert len(known(triton_server)) <= 2
    assert together == [pytest.approx(alone[index % 3], abs=1e-4) for index in range(12)]
    assert known(triton_server) == []


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_asyncio_client_uses_regions_too(triton_server: TritonServer, protocol: str) -> None:
    url = triton_server.url if protocol == "grpc" else triton_server.http_url

    async def ask() -> list[list[float]]:
        async with AsyncClient(url, timeout_s=120) as client:
            answers = await asyncio.gather(*(client.classify_frames(video) for video in FRAMES))
            assert 1 <= len(files()) == len(known(triton_server)) <= 3
            with suppress(TimeoutError):  # which cancels the call, unless it has been answered in time
                await asyncio.wait_for(client.classify_frames(LONG), 0.02)
            return [list(answer.scores.values()) for answer in answers]

    with Client(url, timeout_s=120, shared_memory=False) as wired:
        assert asyncio.run(ask()) == [pytest.approx(scores(wired, video), abs=1e-4) for video in FRAMES]
    assert (files(), known(triton_server)) == ([], [])


@pytest.mark.triton
@pytest.mark.parametrize("what", ["call", "close"])
def test_regions_of_who_is_cancelled_again_and_again_are_forgotten_later(
    triton_server: TritonServer, what: str
) -> None:
    async def ask() -> None:
        async with AsyncClient(triton_server.url, timeout_s=120) as client:
            await client.classify_frames(FRAMES[0])
            task = asyncio.create_task(client.classify_frames(LONG) if what == "call" else client.close())
            await asyncio.sleep(0.02 if what == "call" else 0)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())
    gc.collect()
    deadline = time.monotonic() + 60  # the server may still be reading
    while known(triton_server) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert known(triton_server) == []


@pytest.mark.triton
def test_features_go_through_regions_too(triton_server: TritonServer, served_bundle: Bundle) -> None:
    member = served_bundle.name
    with Client(triton_server.url, timeout_s=120) as client:
        session = client._session
        frames = np.random.default_rng(0).integers(0, 256, (2, 16, 32, 32, 3), np.uint8)
        features = finish(session.request(features_name(member), {"frames": frames}))
        assert sum(array.nbytes for array in features.values()) > shared_memory.MIN_BYTES
        through_head = finish(session.predict(classify_features_name(member), features))
        expected = client.classify_frames(frames, member=member)
        assert [answer.scores for answer in through_head] == [answer.scores for answer in expected]  # type: ignore[union-attr]


@pytest.mark.triton
def test_a_server_that_forgot_the_regions_is_told_again(triton_server: TritonServer) -> None:
    with Client(triton_server.url, timeout_s=120, retry_s=0) as client:
        expected = scores(client, FRAMES[0])
        with triton.InferenceServerClient(triton_server.url) as other:
            other.unregister_system_shared_memory(headers=owner(triton_server))
        assert scores(client, FRAMES[0]) == expected
        assert known(triton_server) == files()
    assert known(triton_server) == []


@pytest.mark.triton
def test_the_region_of_a_call_that_timed_out_is_not_used_again(triton_server: TritonServer) -> None:
    with Client(triton_server.url, timeout_s=120) as client:
        expected = scores(client, FRAMES[0])
        before = files()
        client._session._timeout_s = 0.005
        with pytest.raises(RequestTimeout):
            client.classify_frames(LONG)
        assert not set(files()) & set(before)
        client._session._timeout_s = 120
        assert scores(client, FRAMES[0]) == expected
    assert known(triton_server) == []


@pytest.mark.triton
def test_a_call_under_way_gives_its_region_back_when_the_client_is_closed(triton_server: TritonServer) -> None:
    client = Client(triton_server.url, timeout_s=120)
    client.server_info()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.classify_frames, LONG)
        while not (known(triton_server) or waiting.done()):
            time.sleep(0.005)
        client.close()
        with suppress(RequestCancelled):  # unless it has been answered in time
            waiting.result(60)
    assert (files(), known(triton_server)) == ([], [])


@pytest.mark.triton
@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_client_nobody_closed_leaves_no_file(triton_server: TritonServer, end: str) -> None:
    command = [sys.executable, "-c", LEAKY, triton_server.url, end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, said = process.communicate(timeout=120)
    assert (out, said == "") == ("1\n", end == "exit")
    assert files(process.pid) == []
    with triton.InferenceServerClient(triton_server.url) as other:
        assert len(known(triton_server)) == (end == "kill")
        other.unregister_system_shared_memory(headers=owner(triton_server))


@pytest.mark.triton
def test_what_a_killed_client_left_is_freed_by_the_next_but_not_what_a_living_one_holds(
    triton_server: TritonServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "ABANDONED_S", 0.0)
    abandoned = Path("/dev/shm", f"{shared_memory.PREFIX}1-left")
    abandoned.write_bytes(b"frames")
    with Client(triton_server.url, timeout_s=120) as client:
        scores(client, FRAMES[0])
        held = files()
        with Client(triton_server.url):
            assert (files(), abandoned.exists()) == (held, False)


def test_a_server_without_shared_memory_gets_the_frames_by_the_wire(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        assert scores(client, FRAMES[0]) == pytest.approx(expected_probabilities(FRAMES[:1])[0], rel=1e-5)
        assert files() == []
        assert scores(client, FRAMES[1]) == pytest.approx(expected_probabilities(FRAMES[1:2])[0], rel=1e-5)


def test_a_server_that_never_finds_the_region_gets_the_frames_by_the_wire(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = []
    answer = standin._answer

    def register(request: service_pb2.SystemSharedMemoryRegisterRequest, timeout: float, **_: object) -> None:
        registered.append(request.name)

    def refuse(request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
        region = request.inputs[0].parameters["shared_memory_region"].string_param
        if region:
            raise LookupError(f"Unable to find shared memory region: '{region}'")
        return answer(request)

    monkeypatch.setattr(standin, "_answer", refuse)
    with Client(standin.url, retry_s=0) as client:
        monkeypatch.setattr(client._session.transport._client._client_stub, "SystemSharedMemoryRegister", register)
        assert scores(client, FRAMES[0]) == pytest.approx(expected_probabilities(FRAMES[:1])[0], rel=1e-5)
    assert len(registered) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), AttributeError("posix_fallocate")])
def test_a_full_shared_memory_means_the_wire(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(shared_memory.os, "posix_fallocate", fail)
    with Client(standin.url) as client:
        assert scores(client, FRAMES[0]) == pytest.approx(expected_probabilities(FRAMES[:1])[0], rel=1e-5)


def test_tensors_of_a_region_do_not_overlap() -> None:
    inputs = {"a": FRAMES[:, :1, :7, :5], "b": np.arange(10, dtype=np.float32)}
    starts, num_bytes = offsets(inputs)
    assert starts["b"] >= inputs["a"].nbytes
    assert starts["b"] % inputs["b"].itemsize == 0
    assert num_bytes >= starts["b"] + inputs["b"].nbytes
    region = shared_memory._Region(num_bytes)
    try:
        region.fill(inputs)
        raw = Path("/dev/shm", region.name).read_bytes()
    finally:
        region.free()
    for name, array in inputs.items():
        assert raw[starts[name] : starts[name] + array.nbytes] == np.ascontiguousarray(array).tobytes()


def test_small_requests_and_other_machines_need_no_region(standin: StandinServer) -> None:
    with Client(standin.url) as client:
        client.classify_frames(np.zeros((2, 8, 8, 3), np.uint8))
        assert client._session._regions._usable
    with Client("192.0.2.1:8001") as client:
        assert not client._session._regions._usable
