"""A stand-in on loopback for YouTube-8M's look-up of ids, which cannot be reached from a test."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LookupServer(ThreadingHTTPServer):
    """Answers ``/AB/ABCD.js``.

    Attributes:
        asked: how often each id was asked for.
        statuses: id -> statuses of its first answers, before the good one.
        bodies: id -> body instead of the good one.
        stalled: ids whose answer waits until ``released`` is set.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.statuses: dict[str, list[int]] = {}
        self.bodies: dict[str, bytes] = {}
        self.stalled: set[str] = set()
        self.released = threading.Event()
        self.retry_after = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are part of the tests."""


def youtube_id(video_id: str) -> str:
    """The YouTube id that the stand-in gives a video."""
    return f"yt-_{video_id}abc"


class _Handler(BaseHTTPRequestHandler):
    server: LookupServer

    def do_GET(self) -> None:
        folder, name = self.path.strip("/").split("/")
        video_id = name.removesuffix(".js")
        self.server.asked[video_id] += 1
        if video_id in self.server.stalled:
            self.server.released.wait(30)
        statuses = self.server.statuses.get(video_id)
        status = statuses.pop(0) if statuses else 200
        body = f'i("{video_id}","{youtube_id(video_id)}");'.encode() if video_id.startswith(folder) else b"?"
        self.send_response(status)
        if status != 200 and self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        if status == 200:
            self.wfile.write(self.server.bodies.get(video_id, body))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def lookup_server() -> Iterator[LookupServer]:
    with LookupServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
