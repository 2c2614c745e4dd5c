"""Which samples are learned from, and how often each is drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from reelkind.datasets.grouping import work_groups
from reelkind.datasets.sample import Sample, subcategory_labels

from ..config import SamplingConfig


def with_few_stills(samples: Sequence[Sample], per_subcategory: int) -> list[Sample]:
    """All clips, and of every subcategory at most so many stills: one of each work, then a second one, and so on.

    Stills of no subcategory of the taxonomy are left out. Order and contents of files decide, nothing random.
    """
    by_kind: dict[int, list[tuple[int, str, int]]] = defaultdict(list)
    seen: dict[tuple[int, str], int] = defaultdict(int)
    stills = [i for i, sample in enumerate(samples) if sample.is_still]
    kinds, works = subcategory_labels(samples), work_groups(samples)
    for i in sorted(stills, key=lambda i: samples[i].content_hash):
        kind, work = int(kinds[i]), works[i]
        by_kind[kind].append((seen[kind, work], samples[i].content_hash, i))
        seen[kind, work] += 1
    kept = {i for kind, found in by_kind.items() if kind >= 0 for _, _, i in sorted(found)[:per_subcategory]}
    return [sample for i, sample in enumerate(samples) if not sample.is_still or i in kept]


def sampling_weights(samples: Sequence[Sample], config: SamplingConfig) -> np.ndarray:
    """Probability of drawing each sample, float64 [N]; classes have equal shares."""
    groups = work_groups(samples)
    sizes = Counter(groups)
    weights = np.array([sizes[group] ** -config.work_exponent for group in groups])
    weights *= np.array([1.0 if sample.is_still else config.clip_weight for sample in samples])
    labels = np.array([sample.label for sample in samples])
    for label in np.unique(labels):
        weights[labels == label] /= weights[labels == label].sum()
    shares: np.ndarray = weights / weights.sum()
    return shares
