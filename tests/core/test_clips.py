"""core.timing.clips against brute force: every tick asked which segment it belongs to."""

from fractions import Fraction

import pytest

from reelkind.core.timing.clips import Instants, segment_middles

LENGTHS = [1, 2, 3, 7, 15, 16, 17, 31, 100, 997, 90_000 * 60]


@pytest.mark.parametrize(
    ("start", "duration", "num_frames", "expected"),
    [
        pytest.param(0, 100, 4, [12, 37, 62, 87], id="equal-segments"),
        pytest.param(0, 100, 1, [50], id="one-frame-is-the-middle"),
        pytest.param(0, 1, 3, [0, 0, 0], id="one-tick-repeats"),
        pytest.param(0, 3, 6, [0, 0, 1, 1, 2, 2], id="fewer-ticks-than-frames-repeats"),
        pytest.param(7, 3, 3, [7, 8, 9], id="as-many-ticks-as-frames"),
        pytest.param(-50, 100, 2, [-25, 25], id="negative-start"),
        pytest.param(1 << 40, 10, 2, [(1 << 40) + 2, (1 << 40) + 7], id="large-start-does-not-round"),
    ],
)
def test_middles_are_as_tabulated(start: int, duration: int, num_frames: int, expected: list[int]) -> None:
    assert segment_middles(start, duration, num_frames) == expected


@pytest.mark.parametrize("duration", LENGTHS)
@pytest.mark.parametrize("num_frames", [1, 2, 5, 16, 300])
def test_middles_are_the_exact_middles_rounded_down(duration: int, num_frames: int) -> None:
    exact = [Fraction(2 * i + 1, 2 * num_frames) * duration for i in range(num_frames)]
    assert segment_middles(11, duration, num_frames) == [11 + middle.__floor__() for middle in exact]


@pytest.mark.parametrize("step", [Fraction(1), Fraction(5, 2), Fraction(40), Fraction(1001, 30)])
@pytest.mark.parametrize("duration", LENGTHS[:-1])
def test_instants_are_the_middles_of_equal_steps_that_lie_in_the_stretch(duration: int, step: Fraction) -> None:
    exact = [(i + Fraction(1, 2)) * step for i in range(2 * duration)]
    inside = [11 + middle.__floor__() for middle in exact if middle < duration]
    assert list(Instants(11, duration, step)) == (inside or [11 + duration - 1])


def test_instants_of_a_filled_stretch_are_the_middles_of_its_segments() -> None:
    assert list(Instants(7, 1000, Fraction(1000, 16))) == segment_middles(7, 1000, 16)


def test_instants_can_be_sliced_and_end() -> None:
    instants = Instants(0, 100, Fraction(10))
    assert instants[2:5] == [25, 35, 45]
    with pytest.raises(IndexError):
        instants[10]


def test_instants_of_a_million_years_are_not_stored() -> None:
    instants = Instants(0, 1 << 62, Fraction(1, 1000))
    assert len(instants) > 1 << 62
    assert instants[10**12] == 10**9


@pytest.mark.parametrize(("duration", "step"), [(0, Fraction(1)), (10, Fraction(0)), (10, Fraction(-1))])
def test_instants_need_a_stretch_and_a_step(duration: int, step: Fraction) -> None:
    with pytest.raises(ValueError, match=r"must be (at least 1|above 0)"):
        Instants(0, duration, step)


@pytest.mark.parametrize("bad", [0, -1])
def test_empty_stretches_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match="duration must be at least 1"):
        segment_middles(0, bad, 4)
    with pytest.raises(ValueError, match="num_frames must be at least 1"):
        segment_middles(0, 4, bad)
