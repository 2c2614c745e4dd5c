"""File servers on loopback: one that misbehaves as it is told to by HTTP, and S3's by moto."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SLOW_S = 0.2  # between two drops of what comes slowly


class FileServer:
    """Answers ``/A-B-C/NAME`` by A the first time, B the second, C from then on: a status, or

    ``cut``    an end before the end,
    ``slow``   a drop now and then, for a minute,
    ``unsaid`` everything, without its length before it.

    Attributes:
        url: its address.
        asked: path -> how often.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.asked: dict[str, int] = {}
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked[self.path] = asked.get(self.path, 0) + 1
                manner, _, name = self.path.partition("?")[0].strip("/").partition("/")
                answers = manner.split("-")
                answer = answers[min(asked[self.path], len(answers)) - 1]
                content = files.get(name, b"")
                self.send_response(int(answer) if answer.isdigit() else 200)
                if answer != "unsaid":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if answer == "slow":
                    self.drip(content)
                else:
                    self.wfile.write(content[:100] if answer == "cut" else content)

            def drip(self, content: bytes) -> None:
                for place in range(min(len(content) - 1, 300)):
                    try:
                        self.wfile.write(content[place : place + 1])
                    except OSError:  # nobody listens any more
                        return
                    time.sleep(SLOW_S)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def s3_bucket(files: Mapping[str, bytes], patch: pytest.MonkeyPatch) -> Iterator[str]:
    """``s3://films`` with files in it, on an S3 server that AWS's variables name meanwhile."""
    moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
    fs = pytest.importorskip("pyarrow.fs", reason="the extra s3 is not installed")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}/")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_REGION", "us-east-1")
        store = fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=f"{host}:{port}", scheme="http")
        store.create_dir("films")
        for name, content in files.items():
            with store.open_output_stream(f"films/{name}") as file:
                file.write(content)
        yield "s3://films"
    finally:
        server.stop()
