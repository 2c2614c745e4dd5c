import numpy as np
import pytest

from reelkind.evaluation.measures.metrics import (
    balanced_nll,
    bootstrap_intervals,
    calibration_error,
    fit_temperature,
    recalls,
    score,
    softmax,
)


def test_scores_agree_with_counting_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2, 3])
    scores = score(np.eye(4)[[0, 1, 1, 1, 2, 0]], labels)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.recall == pytest.approx((0.5, 1.0, 1.0, 0.0))
    assert scores.precision == pytest.approx((0.5, 2 / 3, 1.0, 0.0))
    assert scores.macro_f1 == pytest.approx((0.5 + 0.8 + 1.0 + 0.0) / 4)
    assert scores.confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]]


def test_scores_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    labels, probabilities = rng.integers(4, size=80), rng.dirichlet(np.ones(4), size=80)
    scores, guesses = score(probabilities, labels), probabilities.argmax(axis=1)
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(labels, guesses, average="macro"))
    assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, guesses))


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ValueError, match="0 predictions for 0 labels"):
        score(np.zeros((0, 4)), np.zeros(0, int))


def test_intervals_hold_the_estimate_and_grow_when_clips_err_together() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(4), 20)
    guesses = np.where(np.repeat(rng.random(16), 5) < 0.7, labels, (labels + 1) % 4)
    apart = bootstrap_intervals(np.eye(4)[guesses], labels, [str(i) for i in range(80)], 300)["accuracy"]
    together = bootstrap_intervals(np.eye(4)[guesses], labels, [str(i // 5) for i in range(80)], 300)["accuracy"]
    accuracy = (guesses == labels).mean()
    assert apart[0] <= accuracy <= apart[1]
    assert together[1] - together[0] > apart[1] - apart[0]


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.0])
def test_temperature_is_found_again(true_temperature: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(8000, 4)) * 2
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits, true_temperature)])
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.08)


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.85, 0.05, 0.05, 0.05], (10, 1))
    labels = np.array([0] * 6 + [1] * 4)
    assert calibration_error(probabilities, labels) == pytest.approx(0.25)


def test_every_class_counts_the_same_in_the_balanced_loss() -> None:
    probabilities = np.array([[0.5, 0.5, 0, 0]] * 9 + [[0.75, 0.25, 0, 0]])
    labels = np.array([0] * 9 + [1])
    assert balanced_nll(probabilities, labels) == pytest.approx((-np.log(0.5) - np.log(0.25)) / 2)


def test_recalls_count_each_kind_and_leave_out_clips_of_none() -> None:
    found = recalls(np.array([True, False, True, True]), ["a", "a", "", "b"])
    assert {kind: (each["right"], each["count"]) for kind, each in found.items()} == {"a": (1, 2), "b": (1, 1)}
    assert found["a"]["recall"] == 0.5
    assert found["a"]["interval_95"][0] < 0.5 < found["a"]["interval_95"][1]
