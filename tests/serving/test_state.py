"""How commands on this machine find a server."""

from __future__ import annotations

import json
import os

import pytest

from reelkind.serving import state
from reelkind.serving.options import ServerOptions
from reelkind.serving.ports import Addresses
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer
from reelkind.serving.state import announced, find_running, remember_bundle
from reelkind.serving.tls import ServerTls

URL = "127.0.0.1:8001"


@pytest.fixture
def server(tmp_path, monkeypatch) -> TritonServer:
    """One that has its ports, and has not been started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "run"))
    server = TritonServer(tmp_path / "models", supervise=False)
    server._addresses = Addresses("127.0.0.1", 8001, 8000, 8002)
    return server


def test_server_is_found_while_it_runs_and_not_afterwards(server, tmp_path):
    with announced(server, {"lite": tmp_path / "lite"}):
        for url in (URL, "localhost:8001"):
            running = find_running(url)
            assert (running.repository, running.key) == (str(tmp_path / "models"), server.key)
            assert running.folders == {"lite": [str(tmp_path / "lite")]}
        for url in ("127.0.0.1:8002", "10.0.0.7:8001", "nonsense"):
            assert find_running(url) is None
    assert find_running(URL) is None


def test_certificate_is_found_with_it(server, tmp_path):
    server.options = ServerOptions(tls=ServerTls(tmp_path / "server.pem", tmp_path / "server.key"))
    with announced(server, {}):
        assert find_running(URL).tls == server.options.tls


def test_promoted_bundle_is_remembered_before_those_it_replaces(server, tmp_path):
    with announced(server, {"a": tmp_path / "a", "b": tmp_path / "b"}):
        for folder in ("new", "newer", "new"):
            remember_bundle(find_running(URL), "a", tmp_path / folder)
        known = {"a": [str(tmp_path / name) for name in ("new", "newer", "a")], "b": [str(tmp_path / "b")]}
        assert find_running(URL).folders == known


@pytest.mark.parametrize("content", ["", "[]", '{"surprise": 1}'])
def test_damaged_file_is_no_server(server, content):
    with announced(server, {}):
        state._path(8001).write_text(content)
        assert find_running(URL) is None


def test_file_of_a_dead_server_is_no_server(server):
    with announced(server, {}):
        running = find_running(URL)
        mine = processes.read(os.getpid())
        assert running.start_ticks == mine.start_ticks
        path = state._path(8001)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"start_ticks": mine.start_ticks + 1}))
        assert find_running(URL) is None


def test_server_serves_where_the_file_cannot_be_written(server, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with announced(server, {}):
        assert find_running(URL) is None
    (message,) = caplog.messages
    assert message.startswith("`reelkind promote` will not find this server: cannot write ")
