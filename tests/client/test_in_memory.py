"""Videos that are no files: whatever the temporary file meets is the video's error, and nothing is left."""

from __future__ import annotations

import io
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from standin import StandinServer
from videos import write_video

from reelkind.client import Client, FeatureCache, VideoError
from reelkind.client.in_memory import as_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """As a full disk, the system takes the beginning of a file and then no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("data", [bytes(100_000), io.BytesIO(bytes(100_000))], ids=["bytes", "file"])
def test_a_disk_without_room_is_named(folder: Path, data) -> None:
    with files_of_at_most(50_000), pytest.raises(VideoError) as caught, as_file(data, "film"):
        raise AssertionError
    assert str(caught.value).startswith(
        f"film: cannot be kept in a temporary file in {folder}: File too large: make room"
    )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("caching", [False, True], ids=["no-cache", "cache"])
def test_a_folder_that_is_not_there_is_named(standin: StandinServer, folder: Path, tmp_path: Path, caching) -> None:
    folder.rmdir()
    cache = FeatureCache(tmp_path / "cache") if caching else None
    with Client(standin.url, cache=cache) as client, pytest.raises(VideoError, match=f"film: .* in {folder}: No such"):
        client.classify_bytes(b"bytes", "film")


def test_a_file_that_cannot_be_read_is_named(standin: StandinServer, folder: Path) -> None:
    closed = io.BytesIO(b"bytes")
    closed.close()
    with Client(standin.url) as client:
        with pytest.raises(VideoError, match=r"^film: cannot be read: I/O operation on closed file"):
            client.classify_bytes(closed, "film")
        with Path("/proc/self/mem").open("rb") as unreadable, pytest.raises(VideoError, match="film: cannot be read: "):
            client.classify_bytes(unreadable, "film")
    assert list(folder.iterdir()) == []


def test_nothing_is_left(standin: StandinServer, folder: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 10)
    with Client(standin.url) as client, video.open("rb") as file:
        assert client.classify_bytes(file, "film").path == "film"
        with pytest.raises(VideoError, match=r"^film: not a readable video"):
            client.classify_bytes(b"nonsense", "film")
    assert list(folder.iterdir()) == []
