"""The cache of features: what is found, what is dropped, what goes first."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from standin import StandinServer
from videos import write_video

from reelkind.client import Client, FeatureCache, InlineDecoder, InvalidOption, Prediction
from reelkind.core import features
from reelkind.core.features import CLIP, Features, Recipe, Source
from reelkind.core.files import features_files as files

RECIPE = Recipe(CLIP, ("lite",), ("1" * 64,), ("identity",), 4, 224)


def made(number: int = 0, recipe: Recipe = RECIPE, width: int = 8) -> Features:
    array = np.full((len(recipe.views), 4, width), number, np.float32)
    return Features(recipe, Source(f"{number}.mp4", f"{number:064}", 10), {"lite": array}, np.arange(4))


def entry_size() -> int:
    return len(files.to_bytes(made()))


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def test_what_is_put_is_found_by_contents_whatever_the_name(cache: FeatureCache) -> None:
    assert cache.get(made().source, RECIPE) is None
    cache.put(made())
    found = cache.get(replace(made().source, name="renamed.mkv"), RECIPE)
    assert found is not None
    assert np.array_equal(found.arrays["lite"], made().arrays["lite"])
    assert cache.info().num_entries == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": ("2" * 64,)},
        {"members": ("other",)},
        {"views": ("identity", "flip")},
        {"num_frames": 16},
        {"frame_size_px": 260},
        {"kind": "stream", "rate": 2.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_anything_else_that_features_depend_on_is_another_entry(cache: FeatureCache, changes) -> None:
    cache.put(made())
    assert cache.get(made().source, replace(RECIPE, **changes)) is None
    assert cache.get(made(1).source, RECIPE) is None


def test_another_rule_of_choosing_frames_is_another_entry(cache: FeatureCache, monkeypatch) -> None:
    cache.put(made())
    monkeypatch.setattr(features, "RULE_VERSION", "99")
    assert cache.get(made().source, RECIPE) is None


@pytest.mark.parametrize("damage", [b"", b"nonsense", None], ids=["empty", "nonsense", "one-byte"])
def test_a_damaged_entry_is_dropped_and_made_anew(cache: FeatureCache, caplog, damage: bytes | None) -> None:
    cache.put(made())
    (entry,) = cache.folder.glob("*/*")
    data = bytearray(entry.read_bytes())
    data[-1] ^= 1
    entry.write_bytes(data if damage is None else damage)
    with caplog.at_level(logging.WARNING):
        assert cache.get(made().source, RECIPE) is None
    assert "dropped an entry" in caplog.text
    assert not entry.exists()
    cache.put(made())
    assert cache.get(made().source, RECIPE) is not None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=3 * entry_size())
    for number in range(3):
        cache.put(made(number))
        age_all(cache)
    assert cache.get(made(0).source, RECIPE) is not None
    cache.put(made(3))
    assert [cache.get(made(number).source, RECIPE) is not None for number in range(4)] == [True, False, True, True]
    assert cache.info().num_bytes <= cache.max_bytes


def age_all(cache: FeatureCache) -> None:
    """Make what is there older, as clocks of file systems may be coarse."""
    for entry in cache.folder.glob("*/*"):
        before = entry.stat().st_mtime - 10
        os.utime(entry, (before, before))


def test_a_cache_stays_within_its_limit(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=5 * entry_size() + 7)
    for number in range(40):
        cache.put(made(number))
        assert cache.info().num_bytes <= cache.max_bytes
    assert cache.info().num_entries == 5


def test_what_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=entry_size())
    cache.put(made(0))
    cache.put(made(1, width=1000))
    assert cache.get(made(0).source, RECIPE) is not None
    assert cache.info().num_entries == 1


def test_leftovers_of_writers_that_died_are_swept(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=3 * entry_size())
    (tmp_path / "00").mkdir()
    leftover = tmp_path / "00" / ".x.reelkind-part"
    leftover.write_bytes(bytes(3 * entry_size()))
    os.utime(leftover, (0, 0))
    cache.put(made())
    assert not leftover.exists()
    assert cache.get(made().source, RECIPE) is not None


def test_writers_and_readers_at_the_same_time_never_see_half_an_entry(tmp_path: Path, caplog) -> None:
    caches = [FeatureCache(tmp_path, max_bytes=1 << 20) for _ in range(4)]
    barrier = threading.Barrier(4)

    def work(cache: FeatureCache) -> int:
        barrier.wait()
        seen = 0
        for i in range(100):
            cache.put(made(i % 3, width=1000))
            found = cache.get(made((i + 1) % 3).source, RECIPE)
            if found is not None:
                seen += 1
                assert (found.arrays["lite"] == (i + 1) % 3).all()
        return seen

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, caches)) > 300
    assert caplog.text == ""


def test_a_folder_that_cannot_be_written_is_as_good_as_none(tmp_path: Path, caplog) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = FeatureCache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        cache.put(made())
    assert "cannot write" in caplog.text
    assert cache.get(made().source, RECIPE) is None


def test_a_folder_of_no_use_is_said_once_and_every_answer_is_given(
    standin: StandinServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    videos = [write_video(tmp_path / f"{length}.mp4", length) for length in (5, 10, 15)]
    with (
        caplog.at_level(logging.WARNING),
        Client(standin.url, cache=FeatureCache(tmp_path / "file" / "cache")) as client,
    ):
        assert all(isinstance(answer, Prediction) for answer in client.classify_many([*videos, *videos]))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(tmp_path / "file" / "cache") in caplog.text


def test_an_entry_that_cannot_be_read_is_no_entry(cache: FeatureCache, caplog: pytest.LogCaptureFixture) -> None:
    cache.put(made())
    (entry,) = cache.folder.glob("*/*")
    entry.unlink()
    entry.mkdir()  # reading it fails, even for those whom no permission stops
    with caplog.at_level(logging.WARNING):
        assert cache.get(made().source, RECIPE) is None
    assert "cannot read" in caplog.text
    assert entry.exists()
    assert cache.clear() == 0


def test_clearing_removes_entries_and_nothing_else(cache: FeatureCache) -> None:
    cache.put(made(0))
    cache.put(made(1))
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / "ab").mkdir(exist_ok=True)
    (cache.folder / "ab" / "notes.txt").write_text("mine")
    (cache.folder / "ab" / "download.part").write_text("mine")
    assert cache.clear() == 2
    assert (cache.folder / "ab" / "download.part").exists()
    assert cache.info().num_entries == 0
    assert sorted(path.name for path in cache.folder.rglob("*.txt")) == ["notes.txt", "notes.txt"]


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert FeatureCache().folder == Path("/somewhere/reelkind/features")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert FeatureCache().folder == Path("/home/someone/.cache/reelkind/features")


def test_a_limit_is_a_number_of_bytes(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="max_bytes must be at least 0, got -1"):
        FeatureCache(tmp_path, max_bytes=-1)


@pytest.fixture
def clip_path(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4", 20)


def test_weights_that_were_just_replaced_make_new_features(
    standin: StandinServer, cache: FeatureCache, clip_path: Path
) -> None:
    with Client(standin.url, cache=cache) as client:
        assert [client.classify(clip_path).from_cache for _ in range(2)] == [False, True]
        standin.parameters["weights"], standin.version = "1" * 64, "2"
        answer = client.classify(clip_path)
        assert (answer.from_cache, answer.model.weights) == (False, ("1" * 64,))
        assert client.classify(clip_path).from_cache


def test_a_hit_sends_features_to_the_head_and_nothing_else(
    standin: StandinServer, cache: FeatureCache, clip_path: Path
) -> None:
    with Client(standin.url, cache=cache) as client:
        client.classify(clip_path)
        standin.asked.clear()
        assert client.classify(clip_path).from_cache
    assert standin.asked == ["classify_features"]


def test_features_come_out_of_the_cache_and_go_into_it(
    standin: StandinServer, cache: FeatureCache, clip_path: Path
) -> None:
    copy = clip_path.with_name("copy.mp4")
    copy.write_bytes(clip_path.read_bytes())
    with Client(standin.url, cache=cache) as client:
        made = client.extract_features(clip_path)
        standin.asked.clear()
        found = client.extract_features(copy)
        assert standin.asked == []
        assert client.classify(clip_path).from_cache
        assert client.extract_features(clip_path, rate=2).recipe.kind == "stream"
    assert (found.source.name, found.source.sha256) == ("copy.mp4", made.source.sha256)
    np.testing.assert_array_equal(found.arrays["lite"], made.arrays["lite"])


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    standin: StandinServer, cache: FeatureCache, clip_path: Path
) -> None:
    class Meddling(InlineDecoder):
        def decode(self, path, *, num_frames, size_px):
            os.utime(path, (1, 1))
            return super().decode(path, num_frames=num_frames, size_px=size_px)

    with Client(standin.url, cache=cache, decoder=Meddling()) as client:
        client.classify(clip_path)
    assert cache.info().num_entries == 0
