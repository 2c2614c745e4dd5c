"""What the client answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelkind.core.errors import ReelkindError


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered.

    Attributes:
        ensemble: its name on the server.
        members: the trained bundles whose answers were averaged.
        views: the ways each frame was looked at.
        trained: False for random weights, whose labels mean nothing.
        weights: SHA-256 of each member's weights.
    """

    ensemble: str
    members: tuple[str, ...]
    views: tuple[str, ...]
    trained: bool
    weights: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "ensemble": self.ensemble,
            "members": list(self.members),
            "views": list(self.views),
            "trained": self.trained,
            "weights": [digest[:12] for digest in self.weights],
        }


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer for one video.

    Attributes:
        path: the file; None if frames were given.
        label: the likeliest class.
        confidence: its probability.
        scores: class -> probability, sums to 1, in the order of ``core.taxonomy.CLASSES``.
        attention: float32 [T], how much each frame weighed; sums to 1.
        times_ms: int64 [T], where in the video each frame was; None if unknown.
        embedding: float32 [E], the members' embeddings side by side.
        timings_ms: ``decode``, ``infer`` and ``total``; ``infer`` includes the network and retries.
        model: which model answered.
    """

    path: str | None
    label: str
    confidence: float
    scores: Mapping[str, float]
    attention: npt.NDArray[np.float32]
    times_ms: npt.NDArray[np.int64] | None
    embedding: npt.NDArray[np.float32]
    timings_ms: Mapping[str, float]
    model: ModelInfo

    def top(self, k: int) -> list[tuple[str, float]]:
        """The ``k`` likeliest classes and their probabilities, likeliest first."""
        return sorted(self.scores.items(), key=lambda item: -item[1])[:k]

    def to_dict(self, *, attention: bool = True, embedding: bool = False) -> dict[str, Any]:
        """For JSON; the arrays are long and may be left out."""
        raw: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "scores": {name: round(score, 6) for name, score in self.scores.items()},
            "timings_ms": {name: round(duration, 1) for name, duration in self.timings_ms.items()},
            "model": self.model.to_dict(),
        }
        if attention:
            raw["attention"] = [round(float(weight), 6) for weight in self.attention]
            raw["times_ms"] = None if self.times_ms is None else self.times_ms.tolist()
        if embedding:
            raw["embedding"] = self.embedding.tolist()
        return raw


@dataclass(frozen=True)
class Failure:
    """A video without an answer, where others of the same run have one.

    Attributes:
        path: the file.
        error: why; its ``str()`` is a sentence.
    """

    path: str
    error: ReelkindError
