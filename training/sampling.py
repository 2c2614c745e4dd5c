"""Which pictures are learned from, where there are more than it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from .data import Sample
from .grouping import work_groups
from .stages import subcategory_labels


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
