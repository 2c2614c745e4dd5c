"""The four classes and their 46 subcategories: order, wording, and the YouTube-8M entities behind them.

The order of ``CLASSES`` is the order of the last axis of every logits and probabilities tensor.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate, pairwise

CLASSES = ("animation", "gaming", "natural", "flat")
NUM_CLASSES = len(CLASSES)
NUM_SUBCATEGORIES = 46  # rows of taxonomy.csv by subcategory; a test counts them

DESCRIPTIONS = {
    "animation": "drawn, computer-generated or stop-motion pictures: cartoons, anime, CG films",
    "gaming": "recorded play of a video game, with or without its heads-up display",
    "natural": "camera footage of the world: people, places, sports, animals, vehicles",
    "flat": "designed surfaces: slides, screencasts, text, charts, maps, sheet music",
}

_CLASS_OF_SOURCE_NAME = {
    "Animation": "animation",
    "Gaming": "gaming",
    "Natural Content": "natural",
    "Flat Content": "flat",
}


@dataclass(frozen=True)
class Entity:
    """One YouTube-8M vocabulary entry (2018 vocabulary, CC BY 4.0).

    Attributes:
        index: label index in YouTube-8M, 0 .. 3861.
        name: the entity's name, e.g. ``"Minecraft"``.
        num_train_videos: training videos that carry the label.
    """

    index: int
    name: str
    num_train_videos: int


@dataclass(frozen=True)
class Subcategory:
    """One of the 46 finer kinds, e.g. ``gaming/moba``."""

    name: str
    class_name: str
    entities: tuple[Entity, ...]


@dataclass(frozen=True)
class LabelRule:
    """Which other labels a video of YouTube-8M must, and must not, carry to count for a subcategory.

    Attributes:
        require_any: label indices, one of which it needs; empty if none is needed.
        exclude: label indices that rule it out.
    """

    require_any: frozenset[int]
    exclude: frozenset[int]

    def admits(self, labels: Set[int]) -> bool:
        """Whether a video with these label indices counts."""
        return bool(not self.require_any or self.require_any & labels) and not self.exclude & labels


@cache
def subcategories() -> tuple[Subcategory, ...]:
    """All 46 subcategories in the order of the taxonomy file: animation, gaming, natural, flat."""
    entities: dict[tuple[str, str], list[Entity]] = {}
    for row in _rows("taxonomy.csv"):
        key = (_CLASS_OF_SOURCE_NAME[row["class"]], row["subcategory"])
        entity = Entity(int(row["yt8m_index"]), row["yt8m_name"], int(row["train_video_count"]))
        entities.setdefault(key, []).append(entity)
    return tuple(
        Subcategory(name=name, class_name=class_name, entities=tuple(members))
        for (class_name, name), members in entities.items()
    )


@cache
def subcategory_names() -> tuple[str, ...]:
    """All 46 names in the order of the taxonomy, which is that of the tensors."""
    return tuple(kind.name for kind in subcategories())


@cache
def places_of_classes() -> Mapping[str, slice]:
    """Where the subcategories of each class stand on the last axis of the tensors: they follow each other."""
    counts = [sum(kind.class_name == name for kind in subcategories()) for name in CLASSES]
    ends = pairwise(accumulate(counts, initial=0))
    return dict(zip(CLASSES, (slice(*pair) for pair in ends), strict=True))


def check_learnt(learnt: Collection[str]) -> None:
    """Compare names with the taxonomy.

    Raises:
        ValueError: naming those that it does not have, or that occur twice.
    """
    known = subcategory_names()
    unknown = sorted(set(learnt) - set(known))
    if unknown:
        raise ValueError(f"unknown subcategories {', '.join(unknown)} (known: {', '.join(known)})")
    if len(set(learnt)) != len(learnt):
        raise ValueError(f"subcategories occur twice: {', '.join(learnt)}")


def learnt_by_all(learnt: Iterable[Collection[str]]) -> tuple[str, ...]:
    """Subcategories that each of several models has learnt, in the order of the taxonomy; none of no models."""
    several = list(learnt)
    return tuple(name for name in subcategory_names() if several and all(name in each for each in several))


@cache
def label_rules() -> Mapping[str, LabelRule]:
    """The co-label rule of each subcategory; one of its own replaces that of its class.

    YouTube-8M's labels are made by a machine and name topics, not pictures: without the rules, toys, trailers and
    cosplay pass as animation.
    """
    of_class: dict[str, LabelRule] = {}
    own: dict[str, LabelRule] = {}
    for row in _rows("taxonomy_rules.csv"):
        rule = LabelRule(_label_indices(row["require_any_label"]), _label_indices(row["exclude_labels"]))
        if row["scope"].startswith("all "):  # "all subcategories", "all except the two below"
            of_class[_CLASS_OF_SOURCE_NAME[row["class"]]] = rule
        else:
            own[row["scope"]] = rule
    return {sub.name: own.get(sub.name, of_class[sub.class_name]) for sub in subcategories()}


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _label_indices(text: str) -> frozenset[int]:
    """``"5 Cartoon;16 Animation"`` to {5, 16}."""
    return frozenset(int(entry.split(maxsplit=1)[0]) for entry in text.split(";") if entry)
