from collections.abc import Iterator

import pytest

from .lookup_server import LookupServer, lookup_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LookupServer]:
    monkeypatch.setenv("no_proxy", "*")  # loopback is reached directly, whatever this machine is behind
    with lookup_server() as running:
        yield running
