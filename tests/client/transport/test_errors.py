"""Every gRPC status has its error, every error says what to do, and nothing foreign gets through."""

import asyncio
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from standin import StandinServer
from tritonclient.utils import InferenceServerException
from videos import bars

from reelkind import client
from reelkind.client import AsyncClient, Client, ClientError, ReelkindError, ServerFailed
from reelkind.client.transport import errors
from reelkind.client.transport.errors import BY_STATUS, from_status

URL = "gpu-7:8001"


def test_every_grpc_status_is_mapped() -> None:
    assert set(BY_STATUS) == {status.name for status in grpc.StatusCode}


ABORTS = [status for status in grpc.StatusCode if status is not grpc.StatusCode.OK]


@pytest.mark.parametrize("status", ABORTS, ids=lambda status: status.name)
def test_a_status_of_the_standin_becomes_its_error(standin: StandinServer, status: grpc.StatusCode) -> None:
    frames = bars(0, 32, 32)[None]
    standin.failures.append((status, "because"))
    with Client(standin.url, retry_s=0) as asking, pytest.raises(BY_STATUS[status.name]) as caught:
        asking.classify_frames(frames)
    assert caught.value.status == status.name
    assert standin.url in str(caught.value)
    assert "because" in str(caught.value)


def test_the_asyncio_client_maps_every_status_too(standin: StandinServer) -> None:
    async def ask() -> None:
        async with AsyncClient(standin.url, retry_s=0) as asking:
            for status in ABORTS:
                standin.failures.append((status, "because"))
                with pytest.raises(BY_STATUS[status.name], match="because"):
                    await asking.classify_frames(bars(0, 32, 32)[None])

    asyncio.run(ask())


def raising(error: Exception) -> Callable:
    def fail(**_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("cannot schedule new futures"),
        ValueError("Protocol message ModelInferRequest has no such field"),
        TypeError("metadata was invalid"),
        UnicodeEncodeError("ascii", "ä", 0, 1, "ordinal not in range"),
        grpc.RpcError("no details"),
        InferenceServerException("no status"),
        OSError(24, "Too many open files"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_libraries_raise_is_an_error_of_ours(
    standin: StandinServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with Client(standin.url) as asking:
        monkeypatch.setattr(asking._session.transport._client, "infer", raising(error))  # type: ignore[attr-defined]
        with pytest.raises(ServerFailed, match=standin.url) as caught:
            asking.classify_frames(bars(0, 32, 32)[None])
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        ("UNAVAILABLE", "Exceeds maximum queue size", client.ServerBusy),
        ("UNAVAILABLE", "Request timeout expired", client.ServerBusy),
        ("RESOURCE_EXHAUSTED", "Sent message larger than max (9 vs. 4)", client.RequestTooLarge),
        ("INTERNAL", "in ensemble 'classify', Stub process 'head_lite_0_0' is not healthy.", client.ModelUnavailable),
        ("NOT_FOUND", "Request for unknown model: 'classify' is not found", client.ModelUnavailable),
        ("UNAVAILABLE", "Request for unknown model: 'x' has no available versions", client.ModelUnavailable),
        ("UNAVAILABLE", "Request for model 'x' is not ready", client.ModelUnavailable),
        (None, "", client.ServerFailed),
        ("StatusCode.UNAVAILABLE", "anything", client.ServerUnavailable),
        ("NEW_STATUS", "anything", client.ServerFailed),
    ],
)
def test_wording_decides_where_triton_uses_several_statuses(
    status: str | None, message: str, expected: type[ClientError]
) -> None:
    assert type(from_status(status, message, URL)) is expected


@pytest.fixture
def babbling() -> Iterator[str]:
    """Address of a gRPC server whose every answer is bytes that no protobuf is."""

    class Babble(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff" * 40)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Babble()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_damaged_protobuf_is_an_error_of_ours(babbling: str) -> None:
    async def ask() -> None:
        async with AsyncClient(babbling, retry_s=0) as asking:
            with pytest.raises(ServerFailed, match=babbling):
                await asking.server_info()

    with Client(babbling, retry_s=0) as asking, pytest.raises(ServerFailed, match=babbling):
        asking.server_info()
    asyncio.run(ask())


@pytest.mark.parametrize("url", ["127.0.0.1:1", "nowhere.invalid:8001"], ids=["closed-port", "no-name"])
def test_nobody_there_is_unavailable(url: str) -> None:
    with Client(url) as asking, pytest.raises(client.ServerUnavailable, match=f"no server answers at {url}"):
        asking.server_info()


def test_an_http_port_is_recognised() -> None:
    said = "Trying to connect an http1.x server"
    assert "this is an HTTP port: write http:// before it" in str(from_status("UNAVAILABLE", said, URL))


def test_a_servers_traceback_is_cut_to_one_line() -> None:
    error = from_status("INTERNAL", "Traceback:\n  File x\n" * 99, URL)
    assert "\n" not in str(error)
    assert len(str(error)) < 400


def every_error() -> list[type[ClientError]]:
    found, queue = [], [ClientError]
    while queue:
        found.append(queue.pop())
        queue += found[-1].__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_errors_are_public_drawn_and_survive_pickling(kind: type[ClientError]) -> None:
    assert getattr(client, kind.__name__) is kind
    assert kind.__name__ in (errors.__doc__ or "")
    assert issubclass(kind, ReelkindError)
    error = pickle.loads(pickle.dumps(kind("what happened", "INTERNAL")))
    assert (type(error), str(error), error.status) == (kind, "what happened", "INTERNAL")


def test_everything_exported_exists() -> None:
    assert len(set(client.__all__)) == len(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)
