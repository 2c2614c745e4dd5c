import csv
from importlib import resources
from pathlib import Path

import pytest

from reelkind.core.taxonomy.classes import Subcategory, label_rules, subcategories
from reelkind.datasets.yt8m.labelling import Refusal, subcategory_of

from .made_records import labels_of

VOCABULARY = Path(__file__).parents[4] / "shared/data/yt8m/vocabulary.csv"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), Refusal.NO_LABELS),
        ((11, 3000), Refusal.NO_ENTITY),
        ((84,), Refusal.RULED_OUT),
        ((84, 16), "anime_shonen_action"),
        ((84, 16, 1), Refusal.RULED_OUT),
        ((2050,), "stopmotion_and_stickfigure"),
        ((2050, 25), "stopmotion_and_stickfigure"),
        ((2050, 130), Refusal.RULED_OUT),
        ((27, 1), "sandbox_voxel"),
        ((27, 67, 0), "sandbox_voxel"),
        ((67,), "pets"),
        ((67, 298), Refusal.RULED_OUT),
        ((67, 386), "sheet_music_score"),
    ],
    ids=[
        "test partition",
        "food",
        "Naruto without cartoon or animation",
        "Naruto, animation",
        "Naruto, animation, video game",
        "clay animation needs no further label",
        "its own rule replaces the class's: trailers stay",
        "clay animation of Lego",
        "Minecraft, video game",
        "Minecraft, dog, game: games are no camera footage",
        "dog",
        "dog, model railway",
        "dog, sheet music: the excluded label is an entity of flat",
    ],
)
def test_labels_decide(labels: tuple[int, ...], expected: str | Refusal) -> None:
    verdict = subcategory_of(labels)
    assert (verdict.name if isinstance(verdict, Subcategory) else verdict) == expected


def test_every_subcategory_can_be_reached() -> None:
    reached = [subcategory_of(labels_of(subcategory)) for subcategory in subcategories()]
    assert reached == list(subcategories())


def test_several_classes_are_refused() -> None:
    pets, maps = (next(sub for sub in subcategories() if sub.name == name) for name in ("pets", "maps_flags_calendars"))
    assert subcategory_of((pets.entities[0].index, maps.entities[0].index)) is Refusal.SEVERAL_CLASSES


def test_of_one_class_the_rarest_entity_decides() -> None:
    minecraft, rarer = 27, next(sub for sub in subcategories() if sub.name == "moba").entities[-1]
    assert subcategory_of((minecraft, rarer.index, 1)).name == "moba"  # type: ignore[union-attr]
    assert subcategory_of((1, rarer.index, minecraft)).name == "moba"  # type: ignore[union-attr]


def test_no_rule_rules_out_its_own_entities() -> None:
    for subcategory in subcategories():
        assert not {entity.index for entity in subcategory.entities} & label_rules()[subcategory.name].exclude


@pytest.mark.shared
@pytest.mark.skipif(not VOCABULARY.is_file(), reason="no real YouTube-8M vocabulary beside the checkout")
def test_taxonomy_and_rules_name_entities_as_the_vocabulary_does() -> None:
    with VOCABULARY.open(encoding="utf-8", newline="") as file:
        names = {int(row["Index"]): row["Name"] for row in csv.DictReader(file)}
    assert len(names) == 3862
    for subcategory in subcategories():
        assert [entity.name for entity in subcategory.entities] == [names[e.index] for e in subcategory.entities]
    with resources.files("reelkind.core.taxonomy").joinpath("taxonomy_rules.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for entry in filter(None, f"{row['require_any_label']};{row['exclude_labels']}".split(";")):
                index, name = entry.split(maxsplit=1)
                assert names[int(index)] == name
