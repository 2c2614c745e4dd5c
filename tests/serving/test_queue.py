"""What callers get of a real server that has too much to do: the status, and the client's error for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from reelkind.client import ServerBusy
from reelkind.client.transport.errors import from_status
from reelkind.serving import supervisor
from reelkind.serving.models import read_config
from reelkind.serving.server import TritonServer

from . import tiny_repository
from .tiny_repository import infer, random_frames

pytestmark = pytest.mark.triton

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
EXECUTION_S = 2.0


def limit_queue(repository: Path, *, size: int, timeout_s: float) -> None:
    """Give the slow model the policy of our own repositories, with other numbers."""
    for path in repository.glob("*/config.pbtxt"):
        config = read_config(path)
        config.max_batch_size = 1  # requests cannot share an execution
        if config.name == "tiny_answer":
            policy = config.dynamic_batching.default_queue_policy
            policy.timeout_action = model_config_pb2.ModelQueuePolicy.REJECT
            policy.max_queue_size = size
            policy.default_timeout_microseconds = int(timeout_s * 1e6)
        path.write_text(text_format.MessageToString(config), encoding="utf-8")


@pytest.fixture
def server(request, triton_runtime, tmp_path) -> Iterator[TritonServer]:
    repository = tiny_repository.write(tmp_path, delay_s=EXECUTION_S)
    limit_queue(repository, **request.param)
    with TritonServer(repository, runtime=triton_runtime, supervise=False, **FREE) as running:
        yield running


def ask(url: str) -> InferenceServerException | None:
    try:
        infer(url, random_frames())
    except InferenceServerException as error:
        return error
    return None


@pytest.mark.parametrize(
    ("server", "words"),
    [
        pytest.param({"size": 1, "timeout_s": 60.0}, "Exceeds maximum queue size", id="full"),
        pytest.param({"size": 64, "timeout_s": 1.0}, "Request timeout expired", id="waited too long"),
    ],
    indirect=["server"],
)
def test_who_cannot_be_served_is_told_that_the_server_is_busy(server, words):
    with ThreadPoolExecutor(5) as threads:
        refusals = [error for error in threads.map(ask, [server.url] * 5) if error]
    assert 0 < len(refusals) < 5  # the others were answered
    for refusal in refusals:
        assert refusal.status() == "StatusCode.UNAVAILABLE"
        assert words in refusal.message()
        assert isinstance(from_status(refusal.status(), refusal.message(), server.url), ServerBusy)


def test_overload_restarts_nothing_and_costs_no_answer_that_was_accepted(triton_runtime, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(supervisor, "CANARY_INTERVAL_S", 0.3)
    monkeypatch.setattr(supervisor, "SUSPICION_INTERVAL_S", 0.3)
    repository = tiny_repository.write(tmp_path, delay_s=0.5)
    limit_queue(repository, size=1, timeout_s=60.0)
    config = read_config(repository / "classify" / "config.pbtxt")
    config.name = "asked"  # by the supervisor alone; all traffic goes to `classify`
    (repository / "asked" / "1").mkdir(parents=True)
    (repository / "asked" / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    with TritonServer(repository, runtime=triton_runtime, **FREE) as server:
        before = sorted(server.process_ids())
        until = time.monotonic() + 10.0

        def insist(_: int) -> list[InferenceServerException | None]:
            outcomes = []
            while time.monotonic() < until:
                outcomes.append(ask(server.url))
                time.sleep(0.1)
            return outcomes

        with ThreadPoolExecutor(8) as threads:
            outcomes = [outcome for several in threads.map(insist, range(8)) for outcome in several]
        refusals = [str(outcome) for outcome in outcomes if outcome]
        assert len(refusals) > len(outcomes) / 2  # overload it was
        assert all("Exceeds maximum queue size" in refusal for refusal in refusals)
        assert sorted(server.process_ids()) == before
    assert not [message for message in caplog.messages if "restart" in message or "loading again" in message]
