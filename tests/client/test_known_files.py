"""A cache reads a file for its hash once, and again whenever it may be another."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from standin import StandinServer
from videos import write_video

from reelkind.client import Client, FeatureCache, VideoError, known_files
from reelkind.client import cache as _cache
from reelkind.core.features import Source


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "a.mp4").write_bytes(b"one")
    return tmp_path / "a.mp4"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeatureCache:
    """Of files that need not settle."""
    monkeypatch.setattr(known_files, "SETTLED_NS", 0)
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that were read through."""
    names: list[str] = []

    def source_of(path: str | os.PathLike[str]) -> Source:
        names.append(Path(path).name)
        return Source.of(path)

    monkeypatch.setattr(_cache, "source_of", source_of)
    return names


def test_a_file_is_read_once(cache: FeatureCache, video: Path, read: list[str]) -> None:
    for each in (cache, cache, FeatureCache(cache.folder)):
        assert each.source_of(video) == Source.of(video)
    assert read == ["a.mp4"]
    video.with_name("b.mp4").hardlink_to(video)  # which changes ctime
    assert cache.source_of(video.with_name("b.mp4")).name == "b.mp4"
    assert cache.source_of(video) == Source.of(video)
    assert read == ["a.mp4", "b.mp4"]


def written_in_place(video: Path) -> None:
    with video.open("r+b") as file:
        file.write(b"two")


def replaced(video: Path) -> None:
    other = video.with_name("other")
    other.write_bytes(b"two")
    other.replace(video)


@pytest.mark.parametrize("change", [written_in_place, replaced])
def test_a_change_shows_though_size_and_time_are_as_before(
    cache: FeatureCache, video: Path, change: Callable[[Path], None]
) -> None:
    before, times = cache.source_of(video), video.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    change(video)
    os.utime(video, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cache.source_of(video) == Source.of(video) != before


def test_a_file_that_was_changed_a_moment_ago_is_read_again(
    tmp_path: Path, video: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "SETTLED_NS", 3600 * 10**9)
    cache = FeatureCache(tmp_path / "cache")
    for _ in range(2):
        cache.source_of(video)
    assert read == ["a.mp4", "a.mp4"]


def test_who_does_not_trust_times_has_it_read(cache: FeatureCache, video: Path, read: list[str]) -> None:
    cache.source_of(video)
    FeatureCache(cache.folder, verify=True).source_of(video)
    assert read == ["a.mp4", "a.mp4"]


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"identity": 1, "sha256": 2}', b'{"identity": [1]}'])
def test_what_is_damaged_counts_for_nothing(cache: FeatureCache, video: Path, read: list[str], damage: bytes) -> None:
    cache.source_of(video)
    (kept,) = cache.folder.glob("*/*")
    kept.write_bytes(damage)
    assert cache.source_of(video) == cache.source_of(video) == Source.of(video)
    assert read == ["a.mp4", "a.mp4"]


def test_what_is_no_file_is_said(cache: FeatureCache, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no such file"):
        cache.source_of(tmp_path / "none.mp4")
    with pytest.raises(VideoError, match="folder"):
        cache.source_of(tmp_path)


def test_hashes_are_no_entries_but_are_cleared(cache: FeatureCache, video: Path) -> None:
    cache.source_of(video)
    assert cache.info().num_entries == 0
    assert cache.info().num_bytes > 0
    assert cache.clear() == 0
    assert cache.info().num_bytes == 0


def test_a_hit_does_not_read_the_video(
    standin: StandinServer, cache: FeatureCache, tmp_path: Path, read: list[str]
) -> None:
    video = write_video(tmp_path / "b.mp4", 20)
    with Client(standin.url, cache=cache) as client:
        assert [client.classify(video).from_cache for _ in range(3)] == [False, True, True]
    assert read == ["b.mp4"]


def test_a_file_that_was_new_when_reading_began_is_read_again(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, names = FeatureCache(tmp_path / "cache"), []
    monkeypatch.setattr(known_files, "SETTLED_NS", 3600 * 10**9)

    def read_for_long(path: str | os.PathLike[str]) -> Source:
        names.append(path)
        monkeypatch.setattr(known_files, "SETTLED_NS", 0)  # so long that the file has settled meanwhile
        return Source.of(path)

    monkeypatch.setattr(_cache, "source_of", read_for_long)
    for _ in range(3):
        cache.source_of(video)
    assert len(names) == 2, "what the second look found is kept"
