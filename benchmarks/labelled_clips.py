"""Clips to measure with: the samples of the package, or those of a data set, with their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import reelkind.samples as samples
from reelkind.core.errors import ReelkindError
from reelkind.core.taxonomy.classes import CLASSES


def sample_paths() -> list[Path]:
    """The packaged videos, one a class."""
    return sorted(Path(samples.__file__).parent.glob("*.mp4"))


def labelled(data: Path | None, sources: Sequence[str], num_clips: int | None) -> list[tuple[Path, str]]:
    """Videos and their classes.

    Args:
        data: folder of a data set, of which the validation split is taken; None for the samples of the package.
        sources: its folders.
        num_clips: at most so many, an equal number of each class as far as there are; None for all.

    Raises:
        ReelkindError: if there are none.
    """
    if data is None:
        found = [(path, path.name.partition("_")[0]) for path in sample_paths()]
    else:
        from reelkind.datasets.samples import read_samples

        read = [sample for sample in read_samples(data, sources) if sample.split == "val"]
        found = [(sample.path, CLASSES[sample.label]) for sample in read]
    if not found:
        raise ReelkindError(f"{data} has no validation clips in {', '.join(sources)}")
    return found if num_clips is None else _spread(found, num_clips)


def _spread(clips: Sequence[tuple[Path, str]], num_clips: int) -> list[tuple[Path, str]]:
    """The first of each class, then the second of each, and so on."""
    places: dict[str, int] = {}
    keyed = []
    for path, label in clips:
        places[label] = places.get(label, -1) + 1
        keyed.append((places[label], label, path))
    return [(path, label) for _, label, path in sorted(keyed)[:num_clips]]
