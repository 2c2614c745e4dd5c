"""A large backbone's features as lessons for a small one (arXiv:1412.6550): what to say of every frame, in numbers.

The small network sees damaged copies of frames, the large one saw them undamaged. A linear map from the small one's
features to the large one's becomes part of the small network: it starts as a ridge regression, which is the best the
untouched network can do, and is trained on with the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reelkind.core.errors import ConfigError
from reelkind.models.folding import Tail
from reelkind.models.pooling import StandardisedLinear

from ..inputs.features import Activations, as_inputs

RIDGE = 0.1  # added to the variances of standardised features
NUM_RIDGE_FRAMES = 6000
FRAMES_PER_BATCH = 64
STD_FLOOR = 1e-3


@dataclass(frozen=True)
class Lessons:
    """What a teacher says of the frames of N samples.

    Attributes:
        features: the teacher's, float [F, D], frame for frame those of every variant.
        mean: float32 [D], of all of them.
        std: float32 [D].
    """

    features: Activations
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Activations) -> Lessons:
        """Lessons whose differences count as multiples of how much each feature varies."""
        values = torch.from_numpy(features.values[features.frames]).float()
        return cls(features, values.mean(dim=0), values.std(dim=0) + STD_FLOOR)

    def error(self, said: Tensor, wanted: Tensor) -> Tensor:
        """Mean squared error in units of each feature's variance, a scalar: 1 says nothing, 0 repeats the teacher.

        Args:
            said: float32 [N, D].
            wanted: float32 [N, D].
        """
        return ((said - wanted) / self.std.to(said.device)).square().mean()


def refuse_other_frames(variants: Sequence[Activations], lessons: Activations, feature_dim: int) -> None:
    """Compare lessons with what they are of.

    Raises:
        ConfigError: if a variant has other frames, or the pupil another number of features.
    """
    counts = lessons.stops - lessons.starts
    if any(not np.array_equal(variant.stops - variant.starts, counts) for variant in variants):
        raise ConfigError(
            "a teacher speaks of every frame: augment.frames_per_clip, augment.clean_frames_per_clip and "
            "augment.source_frames must be one number"
        )
    if lessons.values.shape[-1] != feature_dim:
        raise ConfigError(f"the teacher has {lessons.values.shape[-1]} features, the backbone learns {feature_dim}")


@torch.no_grad()
def start_projection(tail: Tail, variants: Sequence[Activations], lessons: Lessons, rng: np.random.Generator) -> None:
    """Fit the tail's projection, in place, to what the teacher says of frames drawn at random.

    Raises:
        ConfigError: if the backbone has no projection.
    """
    if not isinstance(tail.projection, StandardisedLinear):
        raise ConfigError("a teacher needs a backbone that ends in its features: backbone.name = '..._distilled'")
    counts = lessons.features.stops - lessons.features.starts
    places = [(v, i, j) for v in range(len(variants)) for i in range(len(counts)) for j in range(counts[i])]
    chosen = [places[k] for k in rng.permutation(len(places))[:NUM_RIDGE_FRAMES]]
    given = []
    for start in range(0, len(chosen), FRAMES_PER_BATCH):
        frames = [variants[v].of(i)[j] for v, i, j in chosen[start : start + FRAMES_PER_BATCH]]
        given.append(tail.pool(as_inputs(np.stack(frames))))
    wanted = np.stack([lessons.features.of(i)[j] for _, i, j in chosen])
    tail.projection.fit(torch.cat(given).float(), torch.from_numpy(wanted).float(), RIDGE)
