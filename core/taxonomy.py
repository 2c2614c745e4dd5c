"""The four classes and their 46 subcategories: order, wording, and the YouTube-8M entities behind them.

The order of ``CLASSES`` is the order of the last axis of every logits and probabilities tensor.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

CLASSES = ("animation", "gaming", "natural", "flat")
NUM_CLASSES = len(CLASSES)

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


def class_index(name: str) -> int:
    """Index of a class on the last axis of logits.

    Raises:
        ValueError: if ``name`` is not one of ``CLASSES``.
    """
    try:
        return CLASSES.index(name)
    except ValueError:
        raise ValueError(f"unknown class {name!r}: the classes are {', '.join(CLASSES)}") from None


@cache
def subcategories() -> tuple[Subcategory, ...]:
    """All 46 subcategories in the order of the taxonomy file: animation, gaming, natural, flat."""
    text = resources.files(__package__).joinpath("taxonomy.csv").read_text(encoding="utf-8")
    entities: dict[tuple[str, str], list[Entity]] = {}
    for row in csv.DictReader(text.splitlines()):
        key = (_CLASS_OF_SOURCE_NAME[row["class"]], row["subcategory"])
        entity = Entity(int(row["yt8m_index"]), row["yt8m_name"], int(row["train_video_count"]))
        entities.setdefault(key, []).append(entity)
    return tuple(
        Subcategory(name=name, class_name=class_name, entities=tuple(members))
        for (class_name, name), members in entities.items()
    )
