"""Videos from URLs: public addresses only, whatever names, redirects and resolvers say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reelkind.web.safety.fetching import FetchError, fetch, is_public

from .conftest import SAMPLES


class Site(BaseHTTPRequestHandler):
    """Serves a video, a text, redirects."""

    def do_GET(self) -> None:
        where = {"/to-private": "http://10.0.0.1/", "/to-file": "file:///etc/passwd", "/round": "/round"}
        if self.path in where:
            self.send_response(302)
            self.send_header("Location", where[self.path])
            self.end_headers()
            return
        body = b"hello" if self.path == "/text" else (SAMPLES / "flat_slides.mp4").read_bytes()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """Its port on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "ff02::1"),
    ],
)
def test_private_addresses_are_no_public_ones(address: str) -> None:
    assert not is_public(address)


def test_public_addresses_are() -> None:
    assert is_public("93.184.215.14")
    assert is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1/", "private network"),
        ("http://localhost/", "private network"),
        ("http://[::1]/", "private network"),
        ("http://2130706433/", "private network"),
        ("https://example.com:22/", "usual ports"),
        ("https://me:secret@example.com/", "password"),
        ("file:///etc/passwd", "no address of the web"),
        ("gopher://example.com/", "no address of the web"),
        ("http://[::1", "no address of the web"),
        ("nonsense", "no address of the web"),
    ],
)
def test_what_may_not_be_fetched_is_refused_before_any_connection(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=said):
        fetch(url, tmp_path, 1 << 20)
    assert list(tmp_path.iterdir()) == []


def get(port: int, path: str, folder: Path, max_bytes: int = 1 << 20) -> object:
    """Fetch from the site as if loopback were public, and nothing else."""
    return fetch(
        f"http://video.example:{port}{path}",
        folder,
        max_bytes,
        allowed=lambda address: address == "127.0.0.1",
        resolver=lambda host, _: ["127.0.0.1" if host == "video.example" else host],
        ports={"http": port},
    )


def test_a_video_is_fetched_and_named_by_its_hash(site: int, tmp_path: Path) -> None:
    found = get(site, "/a.mp4", tmp_path)
    (kept,) = tmp_path.iterdir()
    assert (kept.name, found.media_type) == (found.sha256, "video/mp4")  # type: ignore[attr-defined]
    assert kept.read_bytes() == (SAMPLES / "flat_slides.mp4").read_bytes()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/text", "looks like a text"),
        ("/missing", "404"),
        ("/round", "without end"),
        ("/to-file", "no address of the web"),
        ("/to-private", "private network"),
    ],
)
def test_what_gives_no_video_is_said(site: int, tmp_path: Path, path: str, said: str) -> None:
    with pytest.raises(FetchError, match=said):
        get(site, path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_much_is_not_taken(site: int, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="larger than"):
        get(site, "/a.mp4", tmp_path, max_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_a_name_with_one_private_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="private network"):
        fetch("http://video.example/", tmp_path, 9, resolver=lambda *_: ["93.184.215.14", "127.0.0.1"])


def test_a_name_that_changes_its_address_gains_nothing(site: int, tmp_path: Path) -> None:
    """It is asked once, and the connection goes to what was checked."""
    asked: list[str] = []

    def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    allowed = {"127.0.0.1"}.__contains__
    url = f"http://video.example:{site}/a.mp4"
    assert fetch(url, tmp_path, 1 << 20, allowed=allowed, resolver=resolver, ports={"http": site})
    assert asked == ["video.example"]
