"""Features and given labels to labels that look wrong: confident learning (arXiv:1911.00068)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NUM_FOLDS = 5
MIN_GROUPS = 2  # works a class needs, so that none of its files is judged by a model that never saw the class
REGULARISATION = 0.01  # C of the regression; features are standardised and outnumber most folders' files


@dataclass(frozen=True)
class Suspect:
    """A label that looks wrong.

    Attributes:
        index: of the sample.
        suggested: label it looks like.
        given_probability: of the label it has, out of fold, 0 .. 1.
        suggested_probability: of the label it looks like.
    """

    index: int
    suggested: int
    given_probability: float
    suggested_probability: float


def out_of_fold_probabilities(
    features: np.ndarray, labels: np.ndarray, groups: Sequence[str], seed: int = 0
) -> np.ndarray:
    """Probabilities of each sample from a logistic regression that saw nothing of its group.

    Args:
        features: float32 [N, D].
        labels: int64 [N].
        groups: the work of each.
        seed: of the folds.

    Returns:
        float64 [N, K], K = number of different labels, in ascending order; rows sum to 1.

    Raises:
        ValueError: if a label has fewer than ``MIN_GROUPS`` groups (``judgeable`` tells which).
    """
    classes = np.unique(labels)
    if len(judgeable(labels, groups)) < len(labels):
        raise ValueError(f"every label needs samples of at least {MIN_GROUPS} groups")
    per_label = [len({group for group, label in zip(groups, labels, strict=True) if label == k}) for k in classes]
    folds = StratifiedGroupKFold(min(NUM_FOLDS, *per_label), shuffle=True, random_state=seed)
    probabilities = np.zeros((len(labels), len(classes)))
    for seen, held_out in folds.split(features, labels, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=1000))
        model.fit(features[seen], labels[seen])
        columns = np.searchsorted(classes, model.classes_)
        probabilities[np.ix_(held_out, columns)] = model.predict_proba(features[held_out])
    return probabilities


def judgeable(labels: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Indices, int64, of samples whose label has at least ``MIN_GROUPS`` groups; none if that leaves one label."""
    groups_of: dict[int, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_of.setdefault(int(label), set()).add(group)
    enough = {label for label, found in groups_of.items() if len(found) >= MIN_GROUPS}
    if len(enough) < 2:
        return np.empty(0, np.int64)
    return np.flatnonzero([int(label) in enough for label in labels])


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> list[Suspect]:
    """Samples counted off the diagonal of the confident joint, most suspicious first.

    A class's threshold is the mean probability its own samples get for it. A sample is confidently of the likeliest
    class whose threshold it reaches; it is suspect if that is not the one it is labelled with.

    Args:
        probabilities: float64 [N, K], out of fold, columns in ascending order of label.
        labels: int64 [N].
    """
    classes, given = np.unique(labels, return_inverse=True)
    thresholds = np.array([probabilities[given == k, k].mean() for k in range(len(classes))])
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    likeliest = confident.argmax(axis=1)
    rows = np.arange(len(labels))
    wrong = np.flatnonzero((confident.max(axis=1) > 0) & (likeliest != given))
    margin = probabilities[rows, likeliest] - probabilities[rows, given]
    ordered = sorted(wrong, key=lambda i: (-margin[i], i))
    return [
        Suspect(
            int(i), int(classes[likeliest[i]]), float(probabilities[i, given[i]]), float(probabilities[i, likeliest[i]])
        )
        for i in ordered
    ]
