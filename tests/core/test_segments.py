"""core.timing.segments against brute force: all sequences of labels there are."""

import itertools
from itertools import pairwise

import numpy as np
import pytest

from reelkind.core.timing.segments import LEAST_SCORE, LikeliestSequence, Segmenter, Span, half, stride

SURE = {"a": (0.9, 0.06, 0.04), "b": (0.06, 0.9, 0.04), "c": (0.04, 0.06, 0.9), "?": (0.36, 0.33, 0.31)}
"""Scores of a cell; the letters are the classes."""


def windows_of(num_frames: int, total: int) -> list[tuple[int, int]]:
    """Windows every quarter of one, and one that ends with the video."""
    starts = [*range(0, max(1, total - num_frames + 1), stride(num_frames))]
    if starts[-1] + num_frames < total:
        starts.append(total - num_frames)
    return [(start, min(total, start + num_frames)) for start in starts]


def segments_of(labels: str, num_frames: int = 2, tail: int = 0, **options: float) -> list[Span]:
    """Segments of a video whose half-windows show what the letters of ``labels`` say, and the last for longer."""
    per_frame = np.array([SURE[label] for label in labels for _ in range(half(num_frames))] + [SURE[labels[-1]]] * tail)
    segmenter = Segmenter(num_frames, **options)
    found = []
    for start, stop in windows_of(num_frames, len(per_frame)):
        found += segmenter.add(start, stop, per_frame[start:stop].mean(axis=0))
    return found + segmenter.finish(len(per_frame))


def cells_of(rows: list[tuple[float, ...]], **options: float) -> list[Span]:
    """Segments of windows that do not overlap, so that each is a cell of one frame."""
    segmenter = Segmenter(1, **options)
    found = [span for i, row in enumerate(rows) for span in segmenter.add(i, i + 1, np.array(row))]
    return found + segmenter.finish(len(rows))


def told(spans: list[Span]) -> list[tuple[int, int, str]]:
    return [(span.start, span.stop, "?" if span.label is None else "abc"[span.label]) for span in spans]


@pytest.mark.parametrize("num_frames", [2, 8])
@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param("aaaa", [(0, 4, "a")], id="one-class"),
        pytest.param("a", [(0, 1, "a")], id="shorter-than-a-window"),
        pytest.param("aaaabbbb", [(0, 4, "a"), (4, 8, "b")], id="one-border"),
        pytest.param("aaaabaaaa", [(0, 9, "a")], id="a-moment-of-another-class"),
        pytest.param("aaaabbbbaaaa", [(0, 4, "a"), (4, 8, "b"), (8, 12, "a")], id="more-than-a-moment"),
        pytest.param("aaaa????????aaaa", [(0, 16, "a")], id="a-hardly-likelier-class-in-between"),
    ],
)
def test_segments_are_as_tabulated(num_frames: int, labels: str, expected: list[tuple[int, int, str]]) -> None:
    step = half(num_frames)
    assert told(segments_of(labels, num_frames, switch_penalty=2.0)) == [
        (start * step, stop * step, label) for start, stop, label in expected
    ]


@pytest.mark.parametrize("switch_penalty", [0.0, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_sequence_is_the_best_of_all_that_there_are(seed: int, switch_penalty: float) -> None:
    evidence = np.random.default_rng(seed).normal(0, 1.5, (7, 3))

    def worth(labels: tuple[int, ...]) -> float:
        return sum(evidence[range(7), labels]) - switch_penalty * sum(a != b for a, b in pairwise(labels))

    sequence, certain = LikeliestSequence(3, switch_penalty), []
    for row in evidence:
        sequence.extend(row)
        certain += sequence.take_certain()
    assert tuple(certain + sequence.take_all()) == max(itertools.product(range(3), repeat=7), key=worth)


def test_what_is_certain_comes_soon_and_little_is_kept() -> None:
    random = np.random.default_rng(0)
    sequence, kept = LikeliestSequence(5, 2.0), 0
    for _ in range(10_000):
        sequence.extend(np.log(random.dirichlet([0.3] * 5)))
        sequence.take_certain()
        kept = max(kept, sequence._paths.shape[1])
    assert kept < 15


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
    assert np.abs(true_borders - [span.stop for span in spans[:-1]]).max() <= 2, "a quarter of a window"


def test_scores_of_a_segment_are_the_mean_over_its_frames() -> None:
    (span,) = cells_of([SURE["a"]] * 4 + [SURE["b"]] + [SURE["a"]] * 4)
    assert span.scores.tolist() == pytest.approx(np.mean([SURE["a"]] * 8 + [SURE["b"]], axis=0).tolist())


def test_frames_of_windows_across_a_border_tell_where_it_is() -> None:
    per_frame = np.array([SURE["a"]] * 17 + [SURE["b"]] * 15)
    blurred, sharp = Segmenter(8), Segmenter(8)
    found: dict[str, list[Span]] = {"windows": [], "frames": []}
    for start, stop in windows_of(8, len(per_frame)):
        scores = per_frame[start:stop]
        found["windows"] += blurred.add(start, stop, scores.mean(axis=0))
        found["frames"] += sharp.add(start, stop, scores)
    found["windows"] += blurred.finish(len(per_frame))
    found["frames"] += sharp.finish(len(per_frame))
    borders = {how: [span.stop for span in spans[:-1]] for how, spans in found.items()}
    assert borders["frames"] in ([16], [18])  # the cell that has both is of either
    first, last = found["frames"]
    outside = [span.scores[number] for span, number in ((first, 0), (last, 1))]
    assert outside > [span.scores[number] for span, number in zip(found["windows"], (0, 1), strict=True)]


def test_a_window_that_says_nothing_of_frames_says_the_same_of_each() -> None:
    rows = [np.array(SURE[label]) for label in "aaabbb"]
    alike, alone = Segmenter(2), Segmenter(2)
    spans = [
        [span for start, row in enumerate(rows) for span in segmenter.add(start, start + 2, given(row))]
        + segmenter.finish(7)
        for segmenter, given in ((alike, lambda row: row), (alone, lambda row: np.stack([row, row])))
    ]
    assert [(span.start, span.stop, span.label, *span.scores) for span in spans[0]] == [
        (span.start, span.stop, span.label, *span.scores) for span in spans[1]
    ]


def test_segments_are_given_away_before_the_video_ends() -> None:
    segmenter = Segmenter(2, switch_penalty=2.0)
    a, b = np.array([0.9, 0.1]), np.array([0.1, 0.9])
    given = [segmenter.add(i, i + 2, scores) for i, scores in enumerate([a, a, a, b, b, b, b])]
    assert [len(spans) for spans in given] == [0, 0, 0, 0, 0, 1, 0], "once going back to the first class cannot pay"
    assert (given[5][0].start, given[5][0].stop, given[5][0].label) == (0, 4, 0)


def test_without_a_penalty_every_cell_has_its_likeliest_class() -> None:
    labels = "abbacbca"
    found = cells_of([SURE[label] for label in labels], switch_penalty=0.0)
    assert "".join(label * (stop - start) for start, stop, label in told(found)) == labels


def test_a_large_penalty_gives_the_class_that_is_likeliest_over_the_whole_time() -> None:
    assert told(cells_of([SURE[label] for label in "aaabbbbcaaa"], switch_penalty=100.0)) == [(0, 11, "a")]


def test_an_answer_that_is_quite_sure_of_nonsense_counts_no_more_than_others() -> None:
    rows = [SURE["a"]] * 3 + [(0.0, 1.0, 0.0)] + [SURE["a"]] * 3
    assert told(cells_of(rows, switch_penalty=-np.log(LEAST_SCORE) / 2 + 0.01)) == [(0, 7, "a")]


def test_what_is_not_likely_enough_for_long_has_no_label() -> None:
    assert told(segments_of("aaaa????????????bbbb", abstain_below=0.5)) == [(0, 4, "a"), (4, 16, "?"), (16, 20, "b")]
    assert told(segments_of("????", abstain_below=0.5)) == [(0, 4, "?")]
    assert told(segments_of("????")) == [(0, 4, "a")]


def test_a_blurred_border_has_a_class_on_either_side() -> None:
    assert told(segments_of("aaaaaa?bbbbbb", abstain_below=0.5)) == [(0, 7, "a"), (7, 13, "b")]


@pytest.mark.parametrize("abstain_below", [0.5, 0.8, 0.88])
def test_classes_that_are_just_likely_enough_keep_their_labels(abstain_below: float) -> None:
    found = segments_of("aaaaabbbbbbbcccccaaaaaaa", abstain_below=abstain_below)
    assert "".join(label for _, _, label in told(found)) == "abca"


@pytest.mark.parametrize("seed", range(10))
def test_without_a_penalty_exactly_the_unsure_cells_have_no_label(seed: int) -> None:
    rows = np.random.default_rng(seed).dirichlet([0.5] * 3, size=40)
    spans = cells_of([tuple(row) for row in rows], abstain_below=0.7, switch_penalty=0.0)
    labels = [span.label for span in spans for _ in range(span.start, span.stop)]
    assert labels == [int(row.argmax()) if row.max() >= 0.7 else None for row in rows]


@pytest.mark.parametrize("seed", range(40))
def test_segments_are_what_their_cells_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = [tuple(row) for _ in range(12) for row in random.dirichlet(random.uniform(0.2, 3, 3), size=5)]
    spans = cells_of(rows, abstain_below=0.55)
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == len(rows)
    assert all(a.label != b.label for a, b in pairwise(spans))
    for span in spans:
        cells = np.array(rows[span.start : span.stop])
        assert span.scores.tolist() == pytest.approx(cells.mean(axis=0).tolist())
        num_sure = int((cells.max(axis=1) >= 0.55).sum())
        if span.label is not None and span.start > 0 and span.stop < len(rows):
            assert num_sure >= len(cells) / 3, "else it would have no label"


def test_nothing_has_no_segments() -> None:
    assert Segmenter(2).finish(0) == []


@pytest.mark.parametrize("num_frames", [4, 8, 16])
def test_evidence_counts_by_time_not_by_windows(num_frames: int) -> None:
    """A class takes over for a while where it is e to twice the penalty times as likely, in all its half-windows."""
    nats = np.log(SURE["a"][0] / SURE["a"][1])
    labels = "aaaaaabbbbaaaaaa"  # four half-windows, the outer cells of which are shared with the neighbours
    for penalty, expected in ((nats, "aba"), (3 * nats, "a")):
        found = told(segments_of(labels, num_frames, switch_penalty=penalty))
        assert "".join(label for _, _, label in found) == expected


def test_a_stride_is_a_quarter_of_a_window_and_never_nothing() -> None:
    assert [stride(num_frames) for num_frames in (1, 2, 7, 8, 16)] == [1, 1, 1, 2, 4]
    assert [half(num_frames) for num_frames in (1, 2, 7, 8, 16)] == [1, 1, 3, 4, 8]
