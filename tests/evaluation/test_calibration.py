import dataclasses

import numpy as np
import pytest

from reelkind.evaluation.measures.calibration import (
    adaptive_calibration_error,
    brier,
    calibration_summary,
    cross_fitted,
    error_by_chance,
    nll,
    reliability,
    work_folds,
)

from .made import made_predictions


def test_losses_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(4, size=80), rng.dirichlet(np.ones(4), size=80)
    assert nll(probabilities, labels) == pytest.approx(metrics.log_loss(labels, probabilities, labels=range(4)))
    expected = ((probabilities - np.eye(4)[labels]) ** 2).sum() / 80
    assert brier(probabilities, labels) == pytest.approx(expected)


def test_bins_hold_the_same_number_of_clips_and_rise_in_confidence() -> None:
    made = made_predictions()
    bins = reliability(made.probabilities(), made.labels)
    assert {each.count for each in bins} == {12}
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)
    right = made.probabilities().argmax(axis=1) == made.labels
    assert np.mean([each.accuracy for each in bins]) == pytest.approx(right.mean())


def test_adaptive_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.85, 0.05, 0.05, 0.05], (10, 1))
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    by_hand = np.mean([abs((label == 0) - 0.85) for label in labels])  # ten bins of one clip each
    assert adaptive_calibration_error(probabilities, labels) == pytest.approx(by_hand)


@pytest.mark.parametrize("num_clips", [100, 1000])
def test_few_clips_are_off_by_chance_as_statistics_has_it(num_clips: int) -> None:
    probabilities = np.tile([0.7, 0.1, 0.1, 0.1], (num_clips, 1))  # one bin: the mean distance of a binomial share
    mean, low, high = error_by_chance(probabilities)
    assert mean == pytest.approx(np.sqrt(2 / np.pi * 0.7 * 0.3 / num_clips), rel=0.1)
    assert low < mean < high
    assert error_by_chance(np.tile([1.0, 0.0, 0.0, 0.0], (num_clips, 1)), 20) == (0.0, 0.0, 0.0)


def test_cross_fitting_mends_overconfidence() -> None:
    sober = made_predictions(num_works=100)
    boastful = dataclasses.replace(sober, logits=sober.logits * 4)
    summary = calibration_summary(boastful, num_bootstraps=50)
    assert summary["cross_fitted"]["nll"] < summary["as_shipped"]["nll"]
    assert summary["temperature_fitted_here"] == pytest.approx(
        4 * calibration_summary(sober, num_bootstraps=2)["temperature_fitted_here"], rel=0.05
    )
    low, high = summary["as_shipped"]["ece_interval_95"]
    assert low < summary["as_shipped"]["ece"] < high


def test_a_clips_temperature_is_not_fitted_on_its_own_work() -> None:
    made = made_predictions(num_works=5, clips_per_work=4)
    before = cross_fitted(made)
    changed = np.array([group == "work 0" for group in made.groups])
    other = dataclasses.replace(made, labels=np.where(changed, (made.labels + 1) % 4, made.labels))
    after = cross_fitted(other)
    assert after[changed] == pytest.approx(before[changed])
    assert after[~changed] != pytest.approx(before[~changed])


def test_folds_keep_works_whole_and_hold_everything_once() -> None:
    groups = [f"work {i // 3}" for i in range(33)]
    folds = work_folds(groups)
    assert sorted(np.concatenate(folds)) == list(range(33))
    assert len(folds) == 5
    for fold in folds:
        inside = {groups[i] for i in fold}
        assert sum(group in inside for group in groups) == len(fold)
    assert work_folds(["one", "one"]) == []
