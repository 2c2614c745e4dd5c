import numpy as np
import pytest

from reelkind.core.errors import DataError
from reelkind.evaluation.measures.baselines import MAJORITY, MLP, SVM, baseline_scores


def test_baselines_learn_what_is_there_and_majority_does_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), (30, 20, 20, 20))
    centres = rng.normal(size=(4, 16)) * 3
    train, test = (centres[labels] + rng.normal(size=(90, 16)) for _ in range(2))
    scores = baseline_scores(train, labels, test)
    accuracy = {name: (each.argmax(axis=1) == labels).mean() for name, each in scores.items()}
    assert accuracy[SVM] > 0.95
    assert accuracy[MLP] > 0.95
    assert accuracy[MAJORITY] == pytest.approx(30 / 90)


def test_a_class_without_training_clips_is_never_answered() -> None:
    rng = np.random.default_rng(0)
    scores = baseline_scores(rng.normal(size=(20, 8)), np.repeat([1, 3], 10), rng.normal(size=(50, 8)))
    for each in scores.values():
        assert set(each.argmax(axis=1)) <= {1, 3}


def test_one_class_cannot_be_told_from_others() -> None:
    with pytest.raises(DataError, match="at least two classes"):
        baseline_scores(np.zeros((3, 2)), np.zeros(3, int), np.zeros((1, 2)))
