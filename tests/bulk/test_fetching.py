"""What a file server does wrong, and whose fault that is."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelkind.bulk import fetching
from reelkind.bulk.errors import FetchError

pytest.importorskip("aiohttp", reason="the extra bulk is not installed")

CONTENT = b"picture after picture" * 1000


class Handler(BaseHTTPRequestHandler):
    """Answers ``/A-B-C`` by A the first time, B the second, C from then on; ``cut`` ends before its end."""

    asked: dict[str, int]

    def do_GET(self) -> None:
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        answers = self.path.strip("/").split("-")
        answer = answers[min(self.asked[self.path], len(answers)) - 1]
        self.send_response(int(answer) if answer.isdigit() else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if answer == "cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked() -> dict[str, int]:
    return {}


@pytest.fixture
def address(asked: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"asked": asked})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["200", "503-200", "cut-503-200"])
def test_what_passes_is_tried_again(address: str, path: str) -> None:
    with fetching.fetched(f"{address}/{path}", "") as file:
        assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("path", "num_asked", "reason"),
    [("404", 1, "no such file"), ("403", 1, "credentials"), ("503", 3, "tried 3 times: 503"), ("cut", 3, "tried 3")],
)
def test_what_stays_is_said(address: str, asked: dict[str, int], path: str, num_asked: int, reason: str) -> None:
    with pytest.raises(FetchError, match=reason), fetching.fetched(f"{address}/{path}", ""):
        pass
    assert asked == {f"/{path}": num_asked}


def test_server_that_is_away_is_not_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    with pytest.raises(FetchError, match="tried 3 times"), fetching.fetched("HTTP://127.0.0.1:1/a.mp4", ""):
        pass
