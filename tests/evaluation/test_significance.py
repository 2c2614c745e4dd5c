import numpy as np
import pytest

from reelkind.evaluation.measures.significance import bootstrap_by_work, compare, mcnemar_p, wilson_interval


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (0, 6), (3, 9), (40, 60)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, won: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar_p(lost, won) == pytest.approx(expected)


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (15, 18), (20, 20), (500, 1000)])
def test_wilson_interval_agrees_with_scipy(right: int, count: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right, count) == pytest.approx((expected.low, expected.high))


def test_comparison_counts_the_clips_that_decide() -> None:
    right_a, right_b = np.array([1, 1, 0, 0, 1], bool), np.array([1, 0, 1, 1, 1], bool)
    found = compare(right_a, right_b, list("vwxyz"), num_bootstraps=200)
    assert (found.only_a_right, found.only_b_right) == (1, 2)
    assert found.difference == pytest.approx(0.2)
    assert found.interval[0] <= 0.2 <= found.interval[1]
    assert found.p_value == 1.0
    assert found.summary()["interval"] == [round(end, 4) for end in found.interval]


def test_gains_inside_one_work_convince_mcnemar_but_not_the_bootstrap_by_work() -> None:
    right_a, groups = np.ones(60, bool), ["one work"] * 12 + [f"work {i}" for i in range(48)]
    right_a[:12] = False  # B wins twelve clips, all of one film
    right_b = np.ones(60, bool)
    assert compare(right_a, right_b, groups, 300).p_value < 0.001
    assert compare(right_a, right_b, groups, 300).interval[0] == 0
    apart = compare(right_a, right_b, [str(i) for i in range(60)], 300)
    assert apart.interval[0] > 0


def test_bootstrap_draws_whole_works() -> None:
    groups = ["a"] * 3 + ["b"] * 2
    sizes = set()
    bootstrap_by_work(lambda drawn: sizes.add(len(drawn)) or 0.0, groups, 50)
    assert sizes == {4, 5, 6}


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ValueError, match="0 clips"):
        compare(np.zeros(0, bool), np.zeros(0, bool), [])
    with pytest.raises(ValueError, match="no interval"):
        wilson_interval(0, 0)
