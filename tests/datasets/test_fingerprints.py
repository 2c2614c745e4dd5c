from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelkind.datasets.fingerprints import SIDE_PX, fingerprint, near_duplicates
from reelkind.video.clip import read_clip

from .made import scene, write_scene


def seen(path: Path, num_frames: int = 8) -> np.ndarray:
    return fingerprint(read_clip(path, num_frames=num_frames, size_px=224, num_threads=1).frames)


def still(picture: np.ndarray) -> np.ndarray:
    return fingerprint(np.asarray(Image.fromarray(picture).resize((224, 224)))[None])


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return seen(write_scene(tmp_path_factory.mktemp("scenes") / "a.mp4", seed=1))


@pytest.mark.parametrize(
    "options",
    [
        {"codec_options": {"crf": "40"}},
        {"size_px": (96, 64)},
        {"codec": "mpeg4"},
        {"pixel_format": "gray"},
    ],
    ids=["compressed", "smaller", "other-codec", "grey"],
)
def test_a_damaged_copy_is_found(tmp_path: Path, original: np.ndarray, options: dict) -> None:
    (pair,) = near_duplicates([original, seen(write_scene(tmp_path / "b.mp4", seed=1, **options))])
    assert (pair.first, pair.second) == (0, 1)
    assert pair.likeness > 0.95


def test_a_copy_at_another_frame_rate_is_found(tmp_path: Path, original: np.ndarray) -> None:
    copy = write_scene(tmp_path / "b.mp4", seed=1, pts_ms=[160 * i for i in range(10)], step_px=8)  # every 4th frame
    assert len(near_duplicates([original, seen(copy)])) == 1


@pytest.mark.parametrize("cut", [(8, 6, 184, 122), (0, 0, 176, 117), (16, 11, 192, 128)], ids=["all", "right", "left"])
def test_a_small_crop_is_found(cut: tuple[int, int, int, int]) -> None:
    picture = Image.fromarray(scene(3))
    assert near_duplicates([still(scene(3)), still(np.asarray(picture.crop(cut)))])


def test_bars_are_looked_past() -> None:
    picture = scene(4)
    boxed = np.zeros((picture.shape[0] + 48, picture.shape[1], 3), np.uint8)
    boxed[24:-24] = picture
    (pair,) = near_duplicates([still(picture), still(boxed)])
    assert pair.likeness > 0.98


def test_a_still_taken_from_a_video_is_found(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", seed=5)
    frame = read_clip(path, num_frames=8, size_px=224).frames[3:4]
    assert len(near_duplicates([seen(path), fingerprint(frame)])) == 1


def test_different_scenes_are_not_alike() -> None:
    assert near_duplicates([still(scene(seed)) for seed in range(100, 200)]) == []


def test_pages_that_differ_only_in_their_text_are_not_alike() -> None:
    rng = np.random.default_rng(0)
    pages = []
    for _ in range(12):
        page = np.full((224, 224, 3), 250, np.uint8)
        for top in range(20, 200, 12):
            page[top : top + 5, 20 : int(rng.integers(60, 200))] = 30
        pages.append(fingerprint(page[None]))
    assert near_duplicates(pages) == []


@pytest.mark.parametrize("level", [0, 255])
def test_blank_pictures_are_like_nothing(level: int) -> None:
    blank = fingerprint(np.full((2, 224, 224, 3), level, np.uint8))
    assert blank.shape == (2, SIDE_PX, SIDE_PX)
    assert near_duplicates([blank, blank]) == []


def test_files_that_could_not_be_read_are_like_nothing() -> None:
    nothing = np.empty((0, SIDE_PX, SIDE_PX), np.uint8)
    assert near_duplicates([]) == []
    assert near_duplicates([nothing, nothing, still(scene(1))]) == []


def test_the_likest_pair_comes_first() -> None:
    picture = Image.fromarray(scene(6))
    copies = [picture, picture.crop((12, 8, 180, 120)), picture.resize((90, 60))]
    pairs = near_duplicates([still(np.asarray(copy)) for copy in copies])
    assert (pairs[0].first, pairs[0].second) == (0, 2)
    assert [pair.likeness for pair in pairs] == sorted((pair.likeness for pair in pairs), reverse=True)
