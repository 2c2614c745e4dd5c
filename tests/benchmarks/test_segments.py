"""The measure of segments, on features and answers that are known."""

from itertools import pairwise

import numpy as np
import pytest

from reelkind.benchmarks.timelines.segments import MINUTES, compare, join
from reelkind.core.features import STREAM, Features, Recipe, Source


def clip(value: float, num_frames: int) -> Features:
    recipe = Recipe(STREAM, ("m",), ("0" * 64,), ("identity",), 16, 64, rate=2.0)
    times_ms = np.arange(num_frames, dtype=np.int64) * 500
    array = np.full((1, num_frames, 3), value, np.float32)
    return Features(recipe, Source("a.mp4", "0" * 64, 1), {"m": array}, times_ms, num_frames * 500)


def test_what_is_joined_shows_what_the_truth_says() -> None:
    clips = {"animation": [clip(1, 7), clip(2, 20)], "flat": [clip(-1, 4)]}
    joined, truth = join(clips, (8, 30), seed=0)
    assert (truth[0][0], truth[-1][1]) == (0, joined.duration_ms)
    assert joined.duration_ms >= MINUTES * 60_000
    assert joined.arrays["m"].shape == (1, joined.times_ms.size, 3)
    assert all(a[1] == b[0] and a[2] != b[2] for a, b in pairwise(truth))
    for start, end, label in truth:
        assert 7500 <= end - start <= 30_500
        assert {float(np.sign(v)) for v in np.unique(joined.arrays["m"][0, int(start / 500) : int(end / 500)])} == {
            1.0 if label == "animation" else -1.0
        }
    assert [part[1] for part in join(clips, (8, 30), seed=1)[1]] != [part[1] for part in truth]


@pytest.mark.parametrize(
    ("told", "time_right", "found", "f1"),
    [
        pytest.param([(0, 10, "a"), (10, 20, "b")], 1.0, 1.0, 1.0, id="all"),
        pytest.param([(0, 20, "a")], 0.5, 0.5, 0.0, id="half-of-the-union-is-not-more-than-half"),
        pytest.param([(0, 14, "a"), (14, 20, "b")], 0.8, 1.0, 1.0, id="a-border-that-is-off"),
        pytest.param([(0, 10, "b"), (10, 20, "a")], 0.0, 1.0, 0.0, id="each-the-other"),
        pytest.param([(0, 10, None), (10, 20, "b")], 0.5, 1.0, 0.5, id="no-label"),
        pytest.param([(0, 8, "a"), (8, 10, "b"), (10, 12, "a"), (12, 20, "b")], 0.8, 2.0, 2 / 3, id="flutter"),
    ],
)
def test_figures_are_as_tabulated(told, time_right, found, f1) -> None:
    figures = compare(told, [(0, 10, "a"), (10, 20, "b")])
    assert list(figures.values()) == pytest.approx([time_right, found, f1])
