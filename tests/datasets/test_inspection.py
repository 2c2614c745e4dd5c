import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelkind.core.errors import DataError, VideoError
from reelkind.datasets.inspection import NUM_FRAMES, Inspection, InspectionCache, inspect, inspect_all
from reelkind.datasets.sample import content_hash
from reelkind.video.clip import Clip, read_clip

from .made import scene, write_scene


class Reader:
    """Decodes in this process and counts."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path, num_frames: int) -> Clip:
        self.paths.append(path)
        return read_clip(path, num_frames=num_frames, size_px=64, num_threads=1)


def mean_colour(frames: np.ndarray) -> np.ndarray:
    colour: np.ndarray = frames.mean(axis=(0, 1, 2), dtype=np.float32)
    return colour


def same(one: Inspection, other: Inspection) -> bool:
    arrays = np.array_equal(one.fingerprint, other.fingerprint) and np.array_equal(one.features, other.features)
    plain = ("path", "problem", "missing", "sha256", "duration_s")
    return arrays and all(getattr(one, name) == getattr(other, name) for name in plain)


def test_a_video_is_hashed_measured_and_embedded(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", seed=1, num_frames=50)
    seen = inspect(path, Reader(), mean_colour)
    assert (seen.problem, seen.missing, seen.sha256) == ("", False, content_hash(path))
    assert seen.duration_s == pytest.approx(2, abs=0.05)
    assert seen.fingerprint.shape == (NUM_FRAMES, 32, 32)
    assert seen.features.shape == (3,)


def test_a_raw_stream_without_a_length_is_measured_by_decoding(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.h264", seed=1, num_frames=50)
    assert inspect(path, Reader(), None).duration_s == pytest.approx(2, abs=0.2)


def test_a_still_has_one_frame(tmp_path: Path) -> None:
    Image.fromarray(scene(1)).save(tmp_path / "a.JPG")
    assert inspect(tmp_path / "a.JPG", Reader(), None).fingerprint.shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("content", "missing", "problem"),
    [(None, True, "no such file"), (b"", False, "empty"), (b"no video" * 99, False, "not a readable video")],
    ids=["missing", "empty", "corrupt"],
)
def test_unusable_files_say_why(tmp_path: Path, content: bytes | None, missing: bool, problem: str) -> None:
    path = tmp_path / "ü.mp4"
    if content is not None:
        path.write_bytes(content)
    seen = inspect(path, Reader(), mean_colour)
    assert problem in seen.problem
    assert (seen.missing, len(seen.fingerprint), len(seen.features)) == (missing, 0, 0)


def test_what_was_seen_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    paths = [write_scene(tmp_path / f"{name}.mp4", seed) for seed, name in enumerate("ab")]
    read = Reader()
    with InspectionCache(tmp_path / "cache" / "c.sqlite", "r") as cache:
        first = inspect_all(paths, read, mean_colour, cache, 2)
    write_scene(paths[0], seed=9, num_frames=30)
    with InspectionCache(tmp_path / "cache" / "c.sqlite", "r") as cache:
        second = inspect_all(paths, read, mean_colour, cache, 2)
        assert sorted(read.paths) == sorted([*paths, paths[0]])
        assert same(first[paths[1]], second[paths[1]])
        assert not same(first[paths[0]], second[paths[0]])
        inspect_all(paths, read, mean_colour, cache, 2, fresh=True)
    assert len(read.paths) == 5


def test_another_recipe_looks_again(tmp_path: Path) -> None:
    path, read = write_scene(tmp_path / "a.mp4", seed=1), Reader()
    for recipe in ("one", "other", "one"):
        with InspectionCache(tmp_path / "c.sqlite", recipe) as cache:
            inspect_all([path], read, None, cache, 1)
    assert len(read.paths) == 2


def test_problems_are_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"junk")
    read = Reader()
    with InspectionCache(tmp_path / "c.sqlite", "r") as cache:
        assert inspect_all([path], read, None, cache, 1)[path].problem
        inspect_all([path], read, None, cache, 1)
    assert len(read.paths) == 2


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    paths = [write_scene(tmp_path / f"{seed}.mp4", seed) for seed in range(4)]
    read = Reader()
    done = 0

    def interrupt() -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt

    with InspectionCache(tmp_path / "c.sqlite", "r") as cache:
        with pytest.raises(KeyboardInterrupt):
            inspect_all(paths, read, None, cache, 1, advance=interrupt)
        kept = [path for path in paths if cache.find(path) is not None]
        assert len(kept) >= 2
        again = Reader()
        assert set(inspect_all(paths, again, None, cache, 1)) == set(paths)
        assert set(again.paths) == set(paths) - set(kept)


def test_an_interrupt_does_not_wait_for_a_long_film(tmp_path: Path) -> None:
    released = threading.Event()

    def read(path: Path, num_frames: int) -> Clip:
        if path.name == "long.mp4":
            released.wait(60)
        raise VideoError(path, "stopped")

    paths = [tmp_path / "long.mp4", tmp_path / "short.mp4"]
    for path in paths:
        path.write_bytes(b"x")

    def interrupt() -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with InspectionCache(tmp_path / "c.sqlite", "r") as cache, pytest.raises(KeyboardInterrupt):
        inspect_all(paths, read, None, cache, 2, advance=interrupt)
    assert time.monotonic() - started < 30
    released.set()


def test_a_cache_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_bytes(b"this is text" * 100)
    with pytest.raises(DataError, match=r"c\.sqlite cannot be used .* delete it"):
        InspectionCache(tmp_path / "c.sqlite", "r")
