"""Labels of YouTube-8M to one of the 46 subcategories, or the reason why not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import cache

from reelkind.core.taxonomy.classes import Entity, Subcategory, label_rules, subcategories


class Refusal(StrEnum):
    """Why a video has no subcategory."""

    NO_LABELS = "no labels (test partition)"
    NO_ENTITY = "none of the taxonomy's entities"
    RULED_OUT = "ruled out by its other labels"
    SEVERAL_CLASSES = "fits several classes"


def subcategory_of(labels: Collection[int]) -> Subcategory | Refusal:
    """Where a video with these vocabulary indices belongs.

    A subcategory fits if the video carries one of its entities and its co-label rule admits the video. Fitting several
    classes is a refusal; of several subcategories of one class, that of the rarest entity carried is taken, for the
    rarer label says more.
    """
    if not labels:
        return Refusal.NO_LABELS
    rules, everything = label_rules(), frozenset(labels)
    carried = [_by_entity()[label] for label in everything if label in _by_entity()]
    if not carried:
        return Refusal.NO_ENTITY
    fitting = [(entity, sub) for entity, sub in carried if rules[sub.name].admits(everything)]
    if not fitting:
        return Refusal.RULED_OUT
    if len({subcategory.class_name for _, subcategory in fitting}) > 1:
        return Refusal.SEVERAL_CLASSES
    _, subcategory = min(fitting, key=lambda pair: (pair[0].num_train_videos, pair[0].index))
    return subcategory


@cache
def _by_entity() -> Mapping[int, tuple[Entity, Subcategory]]:
    """Vocabulary index to the entity and the one subcategory that has it."""
    return {entity.index: (entity, subcategory) for subcategory in subcategories() for entity in subcategory.entities}
