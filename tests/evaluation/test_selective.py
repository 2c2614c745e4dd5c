import numpy as np
import pytest

from reelkind.evaluation.measures.selective import (
    NEVER,
    apply_threshold,
    choose_threshold,
    cross_fitted_threshold,
    risk_coverage,
)

from .made import made_predictions


def answers(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of class 0 with these confidences, and labels that make them right or wrong."""
    sure = np.array(confidence)
    rest = (1 - sure) / 3
    return np.stack([sure, rest, rest, rest], axis=1), np.where(right, 0, 1)


def test_curve_by_hand() -> None:
    curve = risk_coverage(*answers([0.9, 0.8, 0.7, 0.6], [True, False, True, True]))
    assert curve.coverage == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert curve.area == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


def test_clips_of_the_same_confidence_stand_or_fall_together() -> None:
    curve = risk_coverage(*answers([0.9, 0.9, 0.5], [False, True, True]))
    assert curve.threshold == pytest.approx([0.9, 0.5])
    assert curve.risk == pytest.approx([1 / 2, 1 / 3])


def test_threshold_answers_as_many_as_reach_the_wanted_accuracy() -> None:
    probabilities, labels = answers([0.9, 0.8, 0.7, 0.6, 0.5], [True, False, True, True, False])
    chosen = choose_threshold(probabilities, labels, 0.75)
    assert chosen.abstain_below == 0.6
    assert (chosen.coverage, chosen.accuracy) == (0.8, 0.75)
    for threshold in np.linspace(0, 1, 51):
        other = apply_threshold(probabilities, labels, float(threshold), 0.75)
        assert other.accuracy is None or other.accuracy < 0.75 or other.coverage <= chosen.coverage


def test_a_wish_that_nothing_fulfils_withholds_everything() -> None:
    chosen = choose_threshold(*answers([0.9, 0.8], [False, True]), 0.9)
    assert (chosen.abstain_below, chosen.coverage, chosen.accuracy) == (NEVER, 0.0, None)
    assert chosen.summary()["accuracy_interval_95"] is None


def test_everything_is_answered_when_that_is_good_enough() -> None:
    assert choose_threshold(*answers([0.9, 0.8], [True, True]), 1.0).coverage == 1.0


def test_threshold_of_other_works_keeps_about_what_it_promises() -> None:
    made = made_predictions(num_works=300, skill=1.5)
    probabilities = made.probabilities()
    coverage, accuracy = cross_fitted_threshold(probabilities, made.labels, made.groups, 0.9)
    chosen = choose_threshold(probabilities, made.labels, 0.9)
    assert accuracy == pytest.approx(0.9, abs=0.03)
    assert coverage == pytest.approx(chosen.coverage, abs=0.1)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got 1\.5"):
        choose_threshold(*answers([0.9], [True]), 1.5)
    with pytest.raises(ValueError, match="no clip"):
        risk_coverage(np.zeros((0, 4)), np.zeros(0, int))
