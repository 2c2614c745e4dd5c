"""Clip features to what simple classifiers make of them: the table every model stands in."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import CLASSES, NUM_CLASSES

SVM_C = 0.01  # of standardised features; chosen by nobody's validation
MLP_WIDTH = 256
SEED = 0

MAJORITY, SVM, MLP = "majority class", "linear SVM on pooled features", "MLP on pooled features"


def baseline_scores(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores [M, K] of every baseline, largest is the answer; nothing is tuned.

    Args:
        train_features: float [N, D], mean of a clip's frame features.
        train_labels: int64 [N].
        test_features: float [M, D].

    Raises:
        DataError: if the training clips are of fewer than two classes.
    """
    found = np.unique(train_labels)
    if len(found) < 2:
        raise DataError(
            f"baselines need training clips of at least two classes, got {[CLASSES[int(label)] for label in found]}"
        )
    counts = np.bincount(train_labels, minlength=NUM_CLASSES)
    models: dict[str, Any] = {
        SVM: LinearSVC(C=SVM_C, class_weight="balanced", random_state=SEED),
        MLP: MLPClassifier((MLP_WIDTH,), alpha=1e-3, early_stopping=False, max_iter=300, random_state=SEED),
    }
    scores = {MAJORITY: np.tile(counts / counts.sum(), (len(test_features), 1))}
    for name, model in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed budget, as for any baseline
            fitted = make_pipeline(StandardScaler(), model).fit(train_features, train_labels)
        scores[name] = np.eye(NUM_CLASSES)[fitted.predict(test_features)]
    return scores
