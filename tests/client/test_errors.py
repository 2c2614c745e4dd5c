"""Every gRPC status has its error, and every error says what to do."""

import pickle

import grpc
import pytest
from standin import StandinServer
from tritonclient.utils import InferenceServerException
from videos import bars

from reelkind import client
from reelkind.client import Client, ClientError, ReelkindError, _errors
from reelkind.client._errors import BY_STATUS, from_triton

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
    assert type(from_triton(InferenceServerException(message, status), URL)) is expected


def test_an_http_port_is_recognised() -> None:
    said = "Trying to connect an http1.x server"
    assert "this is an HTTP port" in str(from_triton(InferenceServerException(said, "UNAVAILABLE"), URL))


def test_a_servers_traceback_is_cut_to_one_line() -> None:
    error = from_triton(InferenceServerException("Traceback:\n  File x\n" * 99, "INTERNAL"), URL)
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
    assert kind.__name__ in (_errors.__doc__ or "")
    assert issubclass(kind, ReelkindError)
    error = pickle.loads(pickle.dumps(kind("what happened", "INTERNAL")))
    assert (type(error), str(error), error.status) == (kind, "what happened", "INTERNAL")


def test_everything_exported_exists() -> None:
    assert len(set(client.__all__)) == len(client.__all__)
    assert all(hasattr(client, name) for name in client.__all__)
