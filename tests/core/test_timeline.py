"""Windows of core.timing.timeline against brute force, every frame asked which windows see it; the vote."""

from itertools import pairwise

import numpy as np
import pytest

from reelkind.core.specs import MAX_FRAMES
from reelkind.core.timing.clips import segment_middles
from reelkind.core.timing.segments import stride
from reelkind.core.timing.timeline import LEAST_FRAMES, RATE, WINDOW_S, FilledWindow, Windows, vote, window_frames


def numbered(first: int, num_frames: int) -> dict[str, np.ndarray]:
    """Features that say which frame they are of: [V=2, N, D=1]."""
    row = np.arange(first, first + num_frames, dtype=np.float32)[None, :, None]
    return {"features_a": np.concatenate([row, -row])}


def windows_of(num_frames: int, total: int, chunk: int) -> list[FilledWindow]:
    windows = Windows(num_frames)
    found = []
    for first in range(0, total, chunk):
        found += windows.add(numbered(first, min(chunk, total - first)))
    assert windows.num_seen == total
    return [*found, *windows.finish()]


@pytest.mark.parametrize("chunk", [1, 5, 16, 1000])
@pytest.mark.parametrize("total", [1, 2, 7, 8, 15, 16, 17, 24, 25, 100])
@pytest.mark.parametrize("num_frames", [1, 2, 7, 16])
def test_windows_cover_every_frame_with_the_features_of_their_own(num_frames: int, total: int, chunk: int) -> None:
    found = windows_of(num_frames, total, chunk)
    assert {frame for window in found for frame in range(window.start, window.stop)} == set(range(total))
    assert all(0 < b.start - a.start <= stride(num_frames) for a, b in pairwise(found))
    for window in found:
        length = min(num_frames, total)
        assert window.stop - window.start == length
        frames = window.features["features_a"][0, :, 0].tolist()
        assert frames == [window.start + i for i in segment_middles(0, length, num_frames)]
        assert (window.features["features_a"][1] == -window.features["features_a"][0]).all()


def test_no_more_is_kept_than_windows_need() -> None:
    windows = Windows(16)
    most = 0
    for first in range(0, 10_000, 16):
        list(windows.add(numbered(first, 16)))
        most = max(most, windows._kept["features_a"].shape[1])
    assert most <= 24


@pytest.mark.parametrize(
    ("rate", "window_s", "num_frames"),
    [
        pytest.param(2, 3, 6, id="a-window-of-seconds"),
        pytest.param(29.97, 4, 120, id="rounded"),
        pytest.param(0.001, 4, LEAST_FRAMES, id="a-frame-in-a-quarter-of-an-hour"),
        pytest.param(1000, 4, MAX_FRAMES, id="no-more-than-a-request-carries"),
    ],
)
def test_a_window_has_the_frames_of_its_seconds_within_limits(rate: float, window_s: float, num_frames: int) -> None:
    assert window_frames(rate, window_s) == num_frames
    assert window_frames(RATE) == RATE * WINDOW_S


def test_the_vote_is_by_time_and_tells_mixtures() -> None:
    a, b = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    found = vote([(30, 0, a), (10, 1, b)])
    assert (found.label, found.mixed) == (0, True)
    assert found.shares.tolist() == [0.75, 0.25]
    assert found.scores.tolist() == pytest.approx([0.725, 0.275])
    assert not vote([(80, 0, a), (20, 1, b)]).mixed
    assert vote([(79, 0, a), (21, 1, b)]).mixed


def test_time_without_a_label_does_not_vote() -> None:
    a, unsure = np.array([0.9, 0.1]), np.array([0.5, 0.5])
    found = vote([(10, 0, a), (90, None, unsure)])
    assert (found.label, found.mixed) == (0, False)
    assert found.shares.tolist() == [0.1, 0]
    nothing = vote([(10, None, unsure)])
    assert (nothing.label, nothing.mixed) == (None, False)


def test_a_video_of_no_length_still_votes() -> None:
    assert vote([(0, 1, np.array([0.2, 0.8]))]).label == 1
