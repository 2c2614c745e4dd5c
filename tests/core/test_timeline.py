"""core.timeline against brute force: every frame asked which windows see it and which segment it is in."""

from itertools import pairwise

import numpy as np
import pytest

from reelkind.core.clips import segment_middles
from reelkind.core.timeline import FilledWindow, Segmenter, Span, Windows, best, stride, vote


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


def segments_of(labels: str, num_frames: int = 4, abstain_below: float = 0.0, tail: int = 0) -> list[Span]:
    """Segments of a video whose half-windows have the classes ``a``, ``b``, ``c``; ``?`` is an undecided one."""
    step = stride(num_frames)
    total = len(labels) * step + tail
    kinds = {"a": (0.8, 0.1, 0.1), "b": (0.1, 0.8, 0.1), "c": (0.1, 0.1, 0.8), "?": (0.34, 0.33, 0.33)}
    per_frame = np.array([kinds[label] for label in labels for _ in range(step)] + [kinds[labels[-1]]] * tail)
    segmenter = Segmenter(num_frames, abstain_below)
    found = []
    for window in windows_of(num_frames, total, 16):
        found += segmenter.add(window.start, window.stop, per_frame[window.start : window.stop].mean(axis=0))
    return found + segmenter.finish(total)


def told(spans: list[Span]) -> list[tuple[int, int, str]]:
    return [(span.start, span.stop, "?" if span.label is None else "abc"[span.label]) for span in spans]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param("aaaa", [(0, 8, "a")], id="one-class"),
        pytest.param("a", [(0, 2, "a")], id="shorter-than-a-window"),
        pytest.param("aaaabbbb", [(0, 8, "a"), (8, 16, "b")], id="one-border"),
        pytest.param("aaaabaaaa", [(0, 18, "a")], id="flicker-inside"),
        pytest.param("aaaabbbaaaa", [(0, 8, "a"), (8, 14, "b"), (14, 22, "a")], id="more-than-a-flicker"),
    ],
)
def test_segments_are_as_tabulated(labels: str, expected: list[tuple[int, int, str]]) -> None:
    assert told(segments_of(labels)) == expected


@pytest.mark.parametrize("tail", [0, 1])
@pytest.mark.parametrize("seed", range(20))
def test_segments_have_no_gaps_and_borders_near_the_true_ones(seed: int, tail: int) -> None:
    rng = np.random.default_rng(seed)
    runs = [("abc"[(seed + i) % 3], int(rng.integers(5, 12))) for i in range(6)]
    labels = "".join(label * length for label, length in runs)
    spans = segments_of(labels, num_frames=8, tail=tail)
    assert spans[0].start == 0
    assert spans[-1].stop == len(labels) * 4 + tail
    assert all(a.stop == b.start and a.label != b.label for a, b in pairwise(spans))
    assert ["abc"[span.label or 0] for span in spans] == [label for label, _ in runs]
    true_borders = np.cumsum([length * 4 for _, length in runs])[:-1]
    assert np.abs(true_borders - [span.stop for span in spans[:-1]]).max() <= 4, "half a window"


def test_segments_scores_are_the_mean_over_their_frames() -> None:
    (span,) = segments_of("aaaabaaaa")
    assert span.scores.sum() == pytest.approx(1)
    assert 0.65 < span.scores[0] < 0.75, "the flicker counts"


def test_segments_are_given_away_before_the_video_ends() -> None:
    segmenter = Segmenter(2)
    a, b = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    given = [segmenter.add(i, i + 2, scores) for i, scores in enumerate([a, a, a, b, b, b])]
    assert [len(spans) for spans in given] == [0, 0, 0, 0, 0, 1], "with the second cell of another class"
    assert (given[5][0].start, given[5][0].stop, given[5][0].label) == (0, 4, 0)


def test_what_is_not_likely_enough_has_no_label() -> None:
    spans = segments_of("aaaa????bbbb", abstain_below=0.5)
    assert [label for _, _, label in told(spans)] == ["a", "?", "b"]
    assert told(segments_of("????", abstain_below=0.5)) == [(0, 8, "?")]
    assert best(np.array([0.4, 0.6]), 0.6) == 1
    assert best(np.array([0.4, 0.6]), 0.61) is None


def test_a_flicker_between_different_neighbours_joins_the_likelier_one() -> None:
    segmenter = Segmenter(2)
    rows = [(0.9, 0.1, 0.0)] * 3 + [(0.1, 0.3, 0.6)] + [(0.1, 0.9, 0.0)] * 3
    found = [span for i, row in enumerate(rows) for span in segmenter.add(i, i + 1, np.array(row))]
    found += segmenter.finish(len(rows))
    assert told(found) == [(0, 3, "a"), (3, 7, "b")]


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


def test_a_stride_is_half_a_window_and_never_nothing() -> None:
    assert [stride(num_frames) for num_frames in (1, 2, 7, 16)] == [1, 1, 3, 8]
