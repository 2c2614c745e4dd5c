"""What a file server does wrong, and whose fault that is."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_servers import FileServer, s3_bucket

from reelkind.core.errors import FetchError
from reelkind.video import fetching
from reelkind.video.fetching import Fetcher, file_name, is_remote, local_path, why_never

CONTENT = b"picture after picture" * 1000
FILES = {"a.mp4": CONTENT, "page.mp4": b"\n<!DOCTYPE html><title>watch</title>"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    pytest.importorskip("aiohttp", reason="the extra urls is not installed")
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    server = FileServer(FILES)
    yield server
    server.close()
    assert list(tmp_path.iterdir()) == [], "temporary files are left"


@pytest.mark.parametrize("manner", ["200", "503-200", "cut-503-200", "unsaid"])
def test_what_passes_is_tried_again(server: FileServer, manner: str) -> None:
    with Fetcher().file(f"{server.url}/{manner}/a.mp4") as path:
        assert Path(path).read_bytes() == CONTENT
        assert Path(path).name == "a.mp4"


@pytest.mark.parametrize(
    ("manner", "num_asked", "reason"),
    [("404", 1, "no such file"), ("403", 1, "credentials"), ("503", 3, "tried 3 times: 503"), ("cut", 3, "tried 3")],
)
def test_what_stays_is_said(server: FileServer, manner: str, num_asked: int, reason: str) -> None:
    with pytest.raises(FetchError, match=reason), Fetcher().file(f"{server.url}/{manner}/a.mp4"):
        pass
    assert server.asked == {f"/{manner}/a.mp4": num_asked}


def test_server_that_is_away_is_not_a_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="the extra urls is not installed")
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    with pytest.raises(FetchError, match="tried 3 times"), Fetcher().file("HTTP://127.0.0.1:1/a.mp4"):
        pass


@pytest.mark.parametrize("manner", ["200", "unsaid"])
def test_what_is_too_large_is_refused_at_once(server: FileServer, manner: str) -> None:
    with Fetcher(max_bytes=len(CONTENT)).file(f"{server.url}/{manner}/a.mp4"):
        pass
    too_small = Fetcher(max_bytes=len(CONTENT) - 1)
    with (
        pytest.raises(FetchError, match=r"larger than the 0\.020999 MB"),
        too_small.file(f"{server.url}/{manner}/a.mp4"),
    ):
        pass
    assert server.asked == {f"/{manner}/a.mp4": 2}


def test_what_comes_too_slowly_is_given_up(server: FileServer) -> None:
    started = time.monotonic()
    patience = Fetcher(timeout_s=0.6)
    with pytest.raises(FetchError, match=r"not fetched within 0\.6 s"), patience.file(f"{server.url}/slow/a.mp4"):
        pass
    assert time.monotonic() - started < 10


def test_closing_ends_what_is_under_way(server: FileServer) -> None:
    fetcher = Fetcher()
    closing = threading.Timer(0.3, fetcher.close)
    closing.start()
    with pytest.raises(FetchError, match="interrupted"), fetcher.file(f"{server.url}/slow/a.mp4"):
        pass
    closing.join()


def test_a_page_is_told_from_a_video(server: FileServer) -> None:
    with pytest.raises(FetchError, match="is a web page"), Fetcher().file(f"{server.url}/200/page.mp4"):
        pass


def test_s3_gives_files_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching._s3.cache_clear()
    with s3_bucket({"a.mp4": CONTENT}, monkeypatch) as bucket:
        with Fetcher(max_bytes=len(CONTENT)).file(f"{bucket}/a.mp4") as path:
            assert Path(path).read_bytes() == CONTENT
        with pytest.raises(FetchError, match="larger than"), Fetcher(max_bytes=10).file(f"{bucket}/a.mp4"):
            pass
        with pytest.raises(FetchError, match="no such file"), Fetcher().file(f"{bucket}/b.mp4"):
            pass
    fetching._s3.cache_clear()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/films/my%20film.mp4?token=a/b", "my film.mp4"),
        ("https://host", "video"),
        ("https://host/..", "video"),
        ("s3://bucket/a%00b:c.mkv", "a_b_c.mkv"),
        ("http://host/" + "映" * 300 + ".mp4", "映" * 56 + ".mp4"),
    ],
)
def test_names_of_files_are_names(url: str, name: str, tmp_path: Path) -> None:
    assert file_name(url) == name
    (tmp_path / name).touch()


def test_paths_are_told_from_urls() -> None:
    assert [is_remote(each) for each in ("a.mp4", "/a://b", "file:///a.mp4", "S3://b/a.mp4", "ftp://h/a")] == [
        *(False, False, False, True, True)
    ]
    assert local_path("file:///my%20films/a.mp4") == "/my films/a.mp4"
    assert local_path("my%20films/a.mp4") == "my%20films/a.mp4"


def test_what_is_never_fetched_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ftp:// is not read" in str(why_never("ftp://host/a.mp4"))
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    assert "http:// needs fsspec and aiohttp: pip install 'reelkind[urls]'" in str(why_never("http://host/a.mp4"))
    assert "s3:// needs pyarrow: pip install 'reelkind[s3]'" in str(why_never("s3://bucket/a.mp4"))
