"""A made video holds what its clips show, for as long as it says."""

from pathlib import Path

import pytest
from videos import read_indices, write_video

from reelkind.benchmarks.timelines.made_video import FPS, make
from reelkind.video.clip import read_stream


def test_clips_are_repeated_until_their_time_is_filled(tmp_path: Path) -> None:
    short = write_video(tmp_path / "short.mp4", 10, fps=FPS)
    long = write_video(tmp_path / "long.mp4", 100, fps=FPS, size_px=(320, 180))
    make([short, long, short], 1.0, tmp_path / "made.mp4")
    chunks = list(read_stream(tmp_path / "made.mp4", rate=FPS, size_px=64))
    shown = [index for chunk in chunks for index in read_indices(chunk.frames)]
    once = [i % 10 for i in range(FPS)]
    assert shown == [*once, *range(FPS), *once]
    assert chunks[-1].position_ms == 3000


@pytest.mark.parametrize("fps", [10, 50])
def test_clips_of_another_rate_last_as_long(tmp_path: Path, fps: int) -> None:
    clip = write_video(tmp_path / "clip.mp4", 2 * fps, fps=fps)
    make([clip], 2.0, tmp_path / "made.mp4")
    shown = [
        i for chunk in read_stream(tmp_path / "made.mp4", rate=FPS, size_px=64) for i in read_indices(chunk.frames)
    ]
    assert shown == [i * fps // FPS for i in range(2 * FPS)]
