"""Made videos of short kinds, and how their timelines are judged, by hand."""

from itertools import pairwise
from pathlib import Path

import pytest

from reelkind.benchmarks.timelines.short_kinds import NUM_SEGMENTS, halves, judge, plan, sum_up
from reelkind.core.taxonomy.classes import CLASSES

TRUTH = [(0, 6000, "flat"), (6000, 12000, "gaming"), (12000, 18000, "flat")]


def folder_of(path: Path, works: dict[str, int]) -> Path:
    for label in CLASSES:
        (path / label).mkdir(parents=True)
        for work, num_clips in works.items():
            for number in range(num_clips):
                (path / label / f"{label}_{work}_{number:03}.mp4").touch()
    return path


def test_works_are_in_one_half_only(tmp_path: Path) -> None:
    choosing, reporting = halves(folder_of(tmp_path, {"a": 3, "b": 1, "c": 2}))
    for label in CLASSES:
        assert [path.stem for path in reporting[label]] == [f"{label}_b_000"]
        assert len(choosing[label]) == 5


def test_one_work_is_not_enough_for_two_halves(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="animation needs clips of at least two works, has animation_a"):
        halves(folder_of(tmp_path, {"a": 3}))


@pytest.mark.parametrize("seed", range(10))
def test_a_made_video_never_shows_a_class_twice_in_a_row(tmp_path: Path, seed: int) -> None:
    clips, _ = halves(folder_of(tmp_path, {"a": 2, "b": 1}))
    parts = plan(clips, seed)
    assert len(parts) == NUM_SEGMENTS
    assert all(a != b for (a, _), (b, _) in pairwise(parts))
    assert all(path.parent.name == label for label, path in parts)
    assert len({path for _, path in parts}) == 2 * len(CLASSES), "each clip once before any comes again"
    assert parts == plan(clips, seed) != plan(clips, seed + 100)


@pytest.mark.parametrize(
    ("told", "found", "right_ms", "errors_s"),
    [
        pytest.param(TRUTH, 3, 18000, [0, 0], id="all"),
        pytest.param([(0, 7000, "flat"), (7000, 18000, "gaming")], 1, 11000, [1, 5], id="one-is-missing"),
        pytest.param([(0, 9000, "flat"), (9000, 18000, "flat")], 2, 12000, [3, 3], id="two-thirds-of-the-union"),
        pytest.param([(0, 18000, None)], 0, 0, [6, 12], id="nothing"),
    ],
)
def test_figures_are_as_tabulated(told, found, right_ms, errors_s) -> None:
    judged = judge(told, TRUTH)
    assert (judged["found"], judged["segments"]) == (found, 3)
    assert (judged["right_ms"], judged["ms"]) == (right_ms, 18000)
    assert judged["border_errors_s"] == errors_s


def test_neighbours_of_one_class_are_one_segment() -> None:
    judged = judge([(0, 12000, "flat")], [(0, 6000, "flat"), (6000, 12000, "flat")])
    assert (judged["found"], judged["segments"], judged["border_errors_s"]) == (1, 1, [])


def test_videos_are_summed_up_by_their_segments_and_time() -> None:
    judged = [judge(TRUTH, TRUTH), judge([(0, 9000, "flat")], [(0, 6000, "flat"), (6000, 9000, "gaming")])]
    assert sum_up(judged) == {
        "found": 4,
        "segments": 5,
        "time_right": round(24 / 27, 3),
        "border_median_s": 0,
        "border_most_s": 6,
        "borders_within_2_s": round(2 / 3, 3),
    }
