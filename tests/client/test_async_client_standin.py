"""The asyncio client against the stand-in server: the same answers, errors and retries as the blocking one."""

import asyncio
import inspect
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from standin import StandinServer
from videos import write_video

from reelkind.client import (
    AsyncClient,
    Client,
    Failure,
    InvalidOption,
    Prediction,
    RequestCancelled,
    RequestTimeout,
    ServerUnavailable,
    VideoError,
)

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in vars(kind).items()
            if callable(member) and (not name.startswith("_") or name == "__init__")
        }

    assert calls(AsyncClient) == calls(Client)


def test_answers_are_those_of_the_blocking_client(standin: StandinServer, clip_path: Path) -> None:
    async def ask() -> list:
        async with AsyncClient(standin.url) as client:
            await client.wait_until_ready(5)
            return [
                await client.classify(clip_path),
                await client.classify_bytes(clip_path.read_bytes()),
                *await client.classify_frames(FRAMES),  # type: ignore[misc]
            ]

    with Client(standin.url) as client:
        blocking = [
            client.classify(clip_path),
            client.classify_bytes(clip_path.read_bytes()),
            *client.classify_frames(FRAMES),  # type: ignore[misc]
        ]
    for ours, theirs in zip(asyncio.run(ask()), blocking, strict=True):
        assert (ours.path, ours.scores, ours.model) == (theirs.path, theirs.scores, theirs.model)


def test_passing_failures_are_waited_out(standin: StandinServer) -> None:
    standin.failures.append((grpc.StatusCode.INTERNAL, "Stub process 'x' is not healthy."))

    async def ask() -> None:
        async with AsyncClient(standin.url) as client:
            await client.classify_frames(FRAMES)

    asyncio.run(ask())
    assert len(standin.requests) == 2


def test_errors_are_those_of_the_blocking_client(standin: StandinServer) -> None:
    async def ask() -> None:
        async with AsyncClient(standin.url) as client:
            with pytest.raises(VideoError, match="no such file"):
                await client.classify("nope.mp4")
            client._session._timeout_s = 0.3
            standin.hold.clear()
            with pytest.raises(RequestTimeout):
                await client.classify_frames(FRAMES)
            standin.stop()
            assert not await client.is_ready()
            with pytest.raises(ServerUnavailable):
                await client.wait_until_ready(0)
        with pytest.raises(RequestCancelled):
            await client.classify_frames(FRAMES)

    asyncio.run(ask())


def test_outside_an_event_loop_it_says_where_it_belongs() -> None:
    with pytest.raises(InvalidOption, match="inside a running event loop"):
        AsyncClient("127.0.0.1:8001")


def test_in_another_event_loop_it_says_where_it_belongs(standin: StandinServer, clip_path: Path) -> None:
    clients = []

    async def ask() -> None:
        clients.append(AsyncClient(standin.url))
        await clients[0].classify(clip_path)

    asyncio.run(ask())
    with pytest.raises(InvalidOption, match=r"another event loop: make one for each asyncio\.run\(\)"):
        asyncio.run(clients[0].classify(clip_path))


def test_closing_ends_calls_under_way_but_not_whoever_awaits_them(standin: StandinServer) -> None:
    standin.hold.clear()

    async def ask() -> None:
        client = AsyncClient(standin.url)
        waiting = asyncio.create_task(client.classify_frames(FRAMES))
        while not standin.requests:
            await asyncio.sleep(0.005)
        await client.close()
        with pytest.raises(RequestCancelled, match="is closed"):
            await waiting

    asyncio.run(asyncio.wait_for(ask(), 60))


def test_decoding_does_not_block_the_loop(standin: StandinServer, clip_path: Path) -> None:
    begun, loop_went_on = threading.Event(), threading.Event()

    class Slow:
        num_workers = 1
        seek = "exact"

        def decode(self, path, *, num_frames, size_px):
            begun.set()
            raise VideoError(path, "the loop went on" if loop_went_on.wait(30) else "the loop was blocked")

        def close(self) -> None: ...

    async def ask() -> None:
        async with AsyncClient(standin.url, decoder=Slow()) as client:
            task = asyncio.create_task(client.classify(clip_path))
            while not begun.is_set():
                await asyncio.sleep(0.01)
            loop_went_on.set()
            with pytest.raises(VideoError, match="the loop went on"):
                await task

    asyncio.run(ask())


@pytest.mark.parametrize("ordered", [True, False])
def test_many_files_are_answered_each(standin: StandinServer, clip_path: Path, ordered: bool) -> None:
    paths = [str(clip_path), "nope.mp4"] * 10

    async def ask() -> list[Prediction | Failure]:
        async with AsyncClient(standin.url) as client:
            return [answer async for answer in client.classify_many(iter(paths), concurrency=3, ordered=ordered)]

    found = [(answer.path, isinstance(answer, Prediction)) for answer in asyncio.run(ask())]
    wanted = [(path, path != "nope.mp4") for path in paths]
    assert found == wanted if ordered else sorted(found) == sorted(wanted)
    assert standin.most_at_once <= 3


def test_leaving_early_cancels_the_rest(standin: StandinServer, clip_path: Path) -> None:
    async def ask() -> None:
        async with AsyncClient(standin.url) as client:
            answers = client.classify_many([clip_path] * 1000, concurrency=2)
            assert isinstance(await anext(answers), Prediction)
            await answers.aclose()  # type: ignore[attr-defined]
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(ask())
    assert len(standin.requests) < 10


def test_one_path_is_not_taken_for_a_row_of_letters(standin: StandinServer) -> None:
    async def ask() -> None:
        async with AsyncClient(standin.url) as client:
            async for _ in client.classify_many("film.mp4"):
                pass

    with pytest.raises(InvalidOption, match=r"several paths, got 'film\.mp4'"):
        asyncio.run(ask())
