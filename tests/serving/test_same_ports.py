"""Two servers that were started for the same ports at the same moment, when neither listened yet."""

from __future__ import annotations

import pytest

from reelkind.serving import server as module
from reelkind.serving.errors import ServingError
from reelkind.serving.server import TritonServer
from reelkind.serving.state import announced, find_running

from . import tiny_repository
from .tiny_repository import expected_probabilities, infer, random_frames

pytestmark = pytest.mark.triton


def test_the_one_that_lost_does_not_take_the_others_answers_for_its_own(triton_runtime, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tiny_repository.write(tmp_path / "models")
    with (
        TritonServer(repository, runtime=triton_runtime, grpc_port=0, http_port=0, metrics_port=0) as first,
        announced(first, {}),
    ):
        monkeypatch.setattr(module, "claim", lambda *_, **__: first.addresses)  # as if all had been free
        second = TritonServer(repository, runtime=triton_runtime)
        with pytest.raises(ServingError, match="port"):
            second.start()
        assert second.process_ids() == []
        frames = random_frames(2, 7)
        assert infer(first.url, frames) == pytest.approx(expected_probabilities(frames), abs=1e-6)
        assert find_running(first.url).key == first.key


def test_the_file_of_the_next_server_on_a_port_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, second = (TritonServer(tmp_path / name, supervise=False) for name in ("a", "b"))
    first._addresses = second._addresses = module.Addresses("127.0.0.1", 8001, 8000, 8002)
    ending, living = announced(first, {}), announced(second, {})
    ending.__enter__()
    with living:
        ending.__exit__(None, None, None)
        assert find_running("127.0.0.1:8001").key == second.key
    assert find_running("127.0.0.1:8001") is None
