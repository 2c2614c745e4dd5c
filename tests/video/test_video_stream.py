"""video.clip.read_stream: every frame at its instant, from start to end, whatever the container says."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import bars, decode_everything, on_screen, read_indices, write_video

from reelkind.core.errors import VideoError
from reelkind.core.timing.clips import Instants
from reelkind.video import clip as video
from reelkind.video.clip import CHUNK_FRAMES, Chunk, read_clip, read_stream
from reelkind.video.container import extent, frame_step, open_file


def shown(chunks: Sequence[Chunk]) -> list[int]:
    return [index for chunk in chunks for index in read_indices(chunk.frames)]


def expected(path: Path, rate: float) -> list[int]:
    """Oracle: decode everything in order, then look up what is on screen in the middle of each interval."""
    timestamps, indices, tick = decode_everything(path)
    with open_file(path) as container:
        stream = container.streams.video[0]
        start, duration = extent(path, container, stream)
        if timestamps[0] is None:  # raw streams carry none
            timestamps = [index * frame_step(stream) for index in range(len(timestamps))]
    step = 1 / (Fraction(rate).limit_denominator(1000) * tick)
    return [indices[on_screen(timestamps, instant)] for instant in Instants(start, duration, step)]


@pytest.mark.parametrize("rate", [0.7, 2, 12.5, 60])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.mp4", {}, id="mp4"),
        pytest.param("a.mkv", {"b_frames": 2}, id="mkv"),
        pytest.param("a.ts", {}, id="mpegts"),
        pytest.param("a.h264", {}, id="no-timestamps"),
        pytest.param("a.mp4", {"pts_ms": [0, 40, 900, 2000, 2040, 5000, 5100]}, id="variable-rate"),
        pytest.param("a.mp4", {"num_frames": 5}, id="short"),
    ],
)
def test_every_interval_shows_the_frame_of_its_middle(tmp_path: Path, name: str, options, rate: float) -> None:
    path = write_video(tmp_path / name, **{"num_frames": 120, **options})
    chunks = list(read_stream(path, rate=rate, size_px=64))
    assert shown(chunks) == expected(path, rate)
    assert all(len(chunk.frames) == CHUNK_FRAMES for chunk in chunks[:-1])
    assert 1 <= len(chunks[-1].frames) <= CHUNK_FRAMES
    times_ms = np.concatenate([chunk.times_ms for chunk in chunks])
    assert (np.diff(times_ms) >= 0).all()
    assert all(a.position_ms < b.position_ms for a, b in pairwise(chunks))


def test_frames_in_a_row_are_the_clip_of_the_time_they_fill(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 100)  # four seconds
    (chunk,) = read_stream(path, rate=4, size_px=64)
    clip = read_clip(path, num_frames=16, size_px=64)
    assert np.array_equal(chunk.frames, clip.frames)
    assert np.array_equal(chunk.times_ms, clip.times_ms)


def test_the_last_chunk_knows_where_the_pictures_end(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 253, audio_s=10.9)  # 10.12 s of pictures in a file of 10.9 s
    chunks = list(read_stream(path, rate=2, size_px=32))
    assert [chunk.position_ms for chunk in chunks] == [8_000, 10_120]
    assert {chunk.duration_ms for chunk in chunks} == {10_120}


@pytest.mark.parametrize("rate", [0.01, 2])
def test_a_still_picture_is_one_frame(tmp_path: Path, rate: float) -> None:
    Image.fromarray(bars(5, 160, 96)).save(tmp_path / "still.png")
    chunks = list(read_stream(tmp_path / "still.png", rate=rate, size_px=64))
    assert shown(chunks) == [5]


def test_a_file_that_is_cut_off_gives_what_it_has_and_then_the_error(tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.mp4", 250, container_options={"movflags": "faststart"}, keyframes=range(0, 250, 5)
    )
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    chunks: list[Chunk] = []
    with pytest.raises(VideoError, match="cut off: pictures end after"):
        chunks.extend(read_stream(half, rate=5, size_px=64))
    found = shown(chunks)
    assert 10 < len(found) < 40
    assert found == shown(list(read_stream(whole, rate=5, size_px=64)))[: len(found)]


@pytest.mark.parametrize("rate", [0, -1, 0.0004, 1e9, float("nan")])
def test_a_rate_must_be_one(tmp_path: Path, rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be from"):
        next(read_stream(tmp_path / "a.mp4", rate=rate))


FAR_MS = 100_000_000_000  # three years


@pytest.mark.parametrize("rate", [2, 50])
def test_a_lying_timestamp_ends_the_stream_with_a_sentence(tmp_path: Path, rate: float) -> None:
    path = write_video(tmp_path / "a.mkv", pts_ms=[*range(0, 20_000, 500), FAR_MS], gop=1)
    found = []
    with pytest.raises(VideoError, match=r"damaged timestamps: after 19\.5 s a picture stays for 27777\.8 hours"):
        found.extend(read_stream(path, rate=rate, size_px=16))
    assert sum(len(chunk.frames) for chunk in found) == pytest.approx(19.5 * rate, abs=1)


def test_many_small_lies_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_STILL_FRAMES", 100)
    path = write_video(tmp_path / "a.mkv", pts_ms=[number * 120_000 for number in range(5)], gop=1)
    with pytest.raises(
        VideoError, match=r"damaged timestamps: after 120\.0 s .* and 120 frames would show nothing new"
    ):
        list(read_stream(path, rate=1, size_px=8))


def test_slides_that_stay_for_an_hour_are_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", pts_ms=[0, 3_600_000, 7_200_000, 7_201_000], gop=1)
    assert shown(list(read_stream(path, rate=0.01, size_px=64))) == [0] * 36 + [1] * 36
