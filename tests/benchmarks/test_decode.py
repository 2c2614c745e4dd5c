"""Numbered videos say which frame is which; readers that are wrong, or cannot read, are rows that say so."""

from pathlib import Path

import numpy as np
import pytest

from reelkind.benchmarks import decode
from reelkind.benchmarks.decode import OURS, READERS, ReadersError, measure, measure_video
from reelkind.benchmarks.numbered_video import (
    BASE_FRAMES,
    ENCODERS,
    FPS,
    Made,
    expected_numbers,
    make,
    middles,
    read_numbers,
)
from reelkind.video import clip as video

MADE = Made("h264", 144, 25, 1)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(MADE, tmp_path_factory.mktemp("videos"))


def test_expected_numbers_start_anew_with_every_repeat() -> None:
    assert middles(625, 3) == [104, 312, 520]
    assert expected_numbers(625, 3) == [104, 312 - BASE_FRAMES, 520 - 2 * BASE_FRAMES]


@pytest.mark.parametrize("codec", ENCODERS)
def test_numbers_survive_encoding_and_scaling(codec: str, tmp_path: Path) -> None:
    made = Made(codec, 144, 11, 10)
    path = make(made, tmp_path)
    frames = video.read_clip(path, num_frames=made.num_frames, size_px=64).frames
    assert read_numbers(frames) == [number % BASE_FRAMES for number in range(275)]
    assert list(tmp_path.iterdir()) == [path]


def test_rows_tell_who_is_wrong_and_who_cannot_read(numbered: Path) -> None:
    def late(path: Path, num_frames: int) -> np.ndarray:
        return decode.reelkind(path, num_frames)[[*range(1, num_frames), 0]]

    def broken(path: Path, num_frames: int) -> np.ndarray:
        raise OSError("no such codec\nmore of no use")

    def short(path: Path, num_frames: int) -> np.ndarray:
        return decode.reelkind(path, num_frames)[:-1]

    readers = {OURS: READERS[OURS], "late": late, "broken": broken, "short": short}
    rows = {row["name"]: row for row in measure_video(MADE, numbered, readers, 4, 2)}
    assert {name: row.get("wrong_frames") for name, row in rows.items()} == {
        OURS: 0,
        "late": 4,
        "broken": None,
        "short": 1,
    }
    assert rows["broken"]["reason"] == "cannot read it here: OSError: no such codec"
    assert rows[OURS]["this_to_reelkind"] == 1.0


KEYFRAMES = "reelkind --seek keyframes"


@pytest.mark.parametrize("name", [name for name in READERS if name != KEYFRAMES])
def test_readers_that_are_installed_choose_the_same_frames(name: str, numbered: Path) -> None:
    module = {"opencv": "cv2", "pyav": "av"}.get(name.split(",")[0], name.split(",")[0])
    if not name.startswith(OURS):
        pytest.importorskip(module, exc_type=ImportError)
    assert read_numbers(READERS[name](numbered, 5)) == expected_numbers(MADE.num_frames, 5)


def test_key_frames_are_the_last_ones_before(numbered: Path) -> None:
    wanted = expected_numbers(MADE.num_frames, 5)
    gaps = np.subtract(wanted, read_numbers(READERS[KEYFRAMES](numbered, 5)))
    assert (gaps >= 0).all()
    assert (gaps < FPS * MADE.gop_s).all()
    assert gaps.any()


def test_report_has_a_row_a_reader_and_a_page(tmp_path: Path) -> None:
    report = measure(
        quick=True, num_frames=4, repeats=1, wanted=[OURS, "pyav"], folder=tmp_path, videos=[MADE], progress=str
    )
    assert [row["name"] for row in report["rows"]] == [OURS, "pyav"]
    assert "h264 144p, 25 s, keyframe every 1 s" in decode.page(report)
    with pytest.raises(ReadersError, match="nonsense"):
        measure(quick=True, num_frames=4, repeats=1, wanted=["nonsense"], progress=str)
