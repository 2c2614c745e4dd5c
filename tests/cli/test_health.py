"""``reelkind health`` asks for an answer, whatever the server says of its readiness."""

import grpc
import pytest
from standin import StandinServer

from reelkind.cli.main import main


def test_an_answer_is_health(standin: StandinServer, capsys: pytest.CaptureFixture) -> None:
    assert main(["health", "--url", standin.url]) == 0
    assert capsys.readouterr().out.startswith("healthy: classify of ")
    assert len(standin.requests) == 1


def test_readiness_without_answers_is_none(standin: StandinServer, capsys: pytest.CaptureFixture) -> None:
    standin.failures.append((grpc.StatusCode.INTERNAL, "Stub process 'backbone_0' is not healthy."))
    assert main(["health", "--url", standin.url]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "does not have the model ready" in captured.err


def test_full_queue_is_no_ill_health(standin: StandinServer, capsys: pytest.CaptureFixture) -> None:
    standin.failures.append((grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size"))
    assert main(["health", "--url", standin.url]) == 0
    assert capsys.readouterr().out.startswith("healthy, but busy: ")


def test_server_that_hangs_is_not_waited_for(standin: StandinServer, capsys: pytest.CaptureFixture) -> None:
    standin.hold.clear()
    try:
        assert main(["health", "--url", standin.url, "--timeout", "0.5"]) == 1
    finally:
        standin.hold.set()
    assert "no answer" in capsys.readouterr().err
