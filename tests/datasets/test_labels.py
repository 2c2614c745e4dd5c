import numpy as np
import pytest

from reelkind.datasets.labels import judgeable, out_of_fold_probabilities, suspects


def clusters(num_works: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three classes far apart, 5 samples a work: float32 [N, 8], int64 [N], works."""
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(3, 8))
    labels = np.repeat(np.arange(3), 5 * num_works)
    features = centres[labels] + rng.normal(size=(len(labels), 8))
    works = [f"{label}-{i // 5 % num_works}" for i, label in enumerate(labels)]
    return features.astype(np.float32), labels, works


def test_flipped_labels_are_found_and_few_others() -> None:
    features, labels, works = clusters(8)
    flipped = [3, 40, 77, 101]
    given = labels.copy()
    given[flipped] = (given[flipped] + 1) % 3
    found = suspects(out_of_fold_probabilities(features, given, works), given)
    assert {suspect.index for suspect in found[:4]} == set(flipped)
    assert {suspect.index: suspect.suggested for suspect in found[:4]} == {i: labels[i] for i in flipped}
    assert len(found) <= 6
    assert all(suspect.suggested_probability > suspect.given_probability for suspect in found)


def test_probabilities_come_from_models_that_never_saw_the_work() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(20, 30)), 6, axis=0).astype(np.float32)  # a work is 6 times the same
    labels, works = np.repeat(np.arange(20) % 2, 6), [f"work {i // 6}" for i in range(120)]
    probabilities = out_of_fold_probabilities(features, labels, works)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    right = (probabilities.argmax(axis=1) == labels).mean()
    assert right < 0.8, "labels without a pattern can only be known by having seen the work"


def test_classes_of_one_work_are_not_judged() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    works = ["a", "b", "c", "d", "e", "e"]
    assert judgeable(labels, works).tolist() == [0, 1, 2, 3]
    assert judgeable(labels[4:], works[4:]).tolist() == []
    with pytest.raises(ValueError, match="at least 2 groups"):
        out_of_fold_probabilities(np.zeros((6, 2), np.float32), labels, works)


def test_a_single_class_is_not_judged() -> None:
    assert len(judgeable(np.zeros(4, np.int64), list("abcd"))) == 0


def test_confident_learning_counts_as_published() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([0, 0, 0, 1, 1])  # thresholds: mean of 0.9 0.8 0.1 = 0.6, of 0.8 0.7 = 0.75
    (suspect,) = suspects(probabilities, labels)
    assert (suspect.index, suspect.suggested) == (2, 1)
    assert (suspect.given_probability, suspect.suggested_probability) == (0.1, 0.9)
