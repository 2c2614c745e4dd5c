"""What the client answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelkind.core.errors import ReelkindError

NUM_SUBCATEGORIES_SHOWN = 5


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered.

    Attributes:
        ensemble: its name on the server.
        members: the bundles whose answers were averaged.
        member_weights: how much each member counts; sums to 1.
        untrained: those members whose weights are random; with any of them, labels mean nothing.
        views: the ways each frame was looked at.
        temporal_views: the orders in which the frames were looked at.
        weights: SHA-256 of each member's weights.
        subcategories_learnt: subcategories that may be named; None if it tells none.
    """

    ensemble: str
    members: tuple[str, ...]
    member_weights: tuple[float, ...]
    untrained: tuple[str, ...]
    views: tuple[str, ...]
    temporal_views: tuple[str, ...]
    weights: tuple[str, ...]
    subcategories_learnt: tuple[str, ...] | None = None

    @property
    def trained(self) -> bool:
        """Whether labels mean anything."""
        return not self.untrained

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ensemble": self.ensemble,
            "members": list(self.members),
            "untrained": list(self.untrained),
            "views": list(self.views),
            "temporal_views": list(self.temporal_views),
            "weights": [digest[:12] for digest in self.weights],
        }


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The answer for one video.

    Attributes:
        path: the file; None if frames were given.
        label: the likeliest class; None if its probability is too low for the threshold asked for.
        confidence: probability of the likeliest class.
        reason: why there is no label; None if there is one.
        scores: class -> probability, sums to 1, in the order of ``core.taxonomy.classes.CLASSES``.
        attention: float32 [T], how much each frame weighed; sums to 1.
        times_ms: int64 [T], where in the video each frame was; None if unknown.
        embedding: float32 [E], the members' embeddings side by side.
        timings_ms: ``decode``, ``infer`` and ``total``; ``infer`` includes the network and retries.
        model: which model answered.
        from_cache: whether the features had been computed before, so that only the head was asked.
        subcategory: the likeliest subcategory of ``label`` among those the model has learnt; None if there is no label,
            none of its class was learnt, or the server tells none.
        subcategory_confidence: its probability; never above ``confidence``.
        subcategories: subcategory -> probability, all 46 in the order of ``core.taxonomy.classes.subcategories``;
            those of a class sum to its score. None if the server tells none.
        frame_scores: float32 [T, K], what each frame shows, seen among the others: probabilities in the order of
            ``scores``, each frame's sum to 1. None if the server, of an earlier release, tells none.
        warnings: sentences on what makes one label doubtful: that the frames show different kinds, see
            ``core.disagreeing``. Empty if there is nothing to warn of, or the server tells nothing of frames.
    """

    path: str | None
    label: str | None
    confidence: float
    reason: str | None
    scores: Mapping[str, float]
    attention: npt.NDArray[np.float32]
    times_ms: npt.NDArray[np.int64] | None
    embedding: npt.NDArray[np.float32]
    timings_ms: Mapping[str, float]
    model: ModelInfo
    from_cache: bool = False
    subcategory: str | None = None
    subcategory_confidence: float | None = None
    subcategories: Mapping[str, float] | None = None
    frame_scores: npt.NDArray[np.float32] | None = None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        members = ", ".join(name + " (untrained)" * (name in self.model.untrained) for name in self.model.members)
        path = "" if self.path is None else f"{self.path!r}: "
        return f"<Prediction {path}{self.label}, confidence {self.confidence:.3f}, by {members}>"

    def top(self, k: int) -> list[tuple[str, float]]:
        """The ``k`` likeliest classes and their probabilities, likeliest first."""
        return sorted(self.scores.items(), key=lambda item: -item[1])[:k]

    def top_subcategories(self, k: int) -> list[tuple[str, float]]:
        """The ``k`` likeliest subcategories, of any class, that the model has learnt, likeliest first."""
        learnt = self.model.subcategories_learnt or ()
        found = [item for item in (self.subcategories or {}).items() if item[0] in learnt]
        return sorted(found, key=lambda item: -item[1])[:k]

    def to_dict(
        self, *, attention: bool = True, embedding: bool = False, all_subcategories: bool = False
    ) -> dict[str, Any]:
        """For JSON; the arrays are long and may be left out, and of the subcategories all but the likeliest are."""
        finer = self.subcategories
        if finer is not None and not all_subcategories:
            finer = dict(self.top_subcategories(NUM_SUBCATEGORIES_SHOWN))
        raw: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "reason": self.reason,
            "scores": {name: round(score, 6) for name, score in self.scores.items()},
            "subcategory": self.subcategory,
            "subcategory_confidence": rounded(self.subcategory_confidence),
            "subcategories": None if finer is None else {name: round(score, 6) for name, score in finer.items()},
            "timings_ms": {name: round(duration, 1) for name, duration in self.timings_ms.items()},
            "model": self.model.to_dict(),
            "from_cache": self.from_cache,
            "warnings": list(self.warnings),
        }
        if attention:
            frames = None if self.frame_scores is None else self.frame_scores.tolist()
            raw["attention"] = [round(float(weight), 6) for weight in self.attention]
            raw["frame_scores"] = frames and [[round(score, 6) for score in frame] for frame in frames]
            raw["times_ms"] = None if self.times_ms is None else self.times_ms.tolist()
        if embedding:
            raw["embedding"] = self.embedding.tolist()
        return raw


def rounded(probability: float | None) -> float | None:
    """A probability, if there is one, with the digits that JSON gets."""
    return None if probability is None else round(probability, 6)


@dataclass(frozen=True)
class Failure:
    """A video without an answer, where others of the same run have one.

    Attributes:
        path: the file.
        error: why; its ``str()`` is a sentence.
    """

    path: str
    error: ReelkindError
