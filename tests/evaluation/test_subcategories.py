from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import CLASSES, subcategory_names
from reelkind.datasets.sample import Sample
from reelkind.evaluation.measures.subcategories import (
    SubcategoryAnswers,
    fit_subcategory_temperature,
    learnt_subcategories,
    measure_all,
    measure_subcategories,
    require_subcategories,
)


def sample(class_name: str, subcategory: str, work: str) -> Sample:
    return Sample(Path(f"{work}.mp4"), CLASSES.index(class_name), work, "clips", subcategory=subcategory)


def works(class_name: str, subcategory: str, names: str) -> list[Sample]:
    return [sample(class_name, subcategory, name) for name in names.split()]


SAMPLES = [
    *works("gaming", "moba", "dota league smite"),
    *works("gaming", "fps_scifi", "halo halo halo"),  # one work
    *works("natural", "pets", "rex tom bella"),
    *works("natural", "my own word", "a b c"),
    *works("flat", "moba", "x y z"),  # of another class
    *works("flat", "", "d e f"),
]
LEARNT = ("moba", "pets")


def answers(said: list[tuple[str, str]], samples: list[Sample], sureness: float = 5.0) -> SubcategoryAnswers:
    """A model that says these classes and, among all 46, these subcategories."""
    classes = np.full((len(said), 4), 0.1)
    logits = np.zeros((len(said), 46))
    for row, (class_name, name) in enumerate(said):
        classes[row, CLASSES.index(class_name)] = 0.7
        logits[row, subcategory_names().index(name)] = sureness
    return SubcategoryAnswers(samples, logits, classes)


def test_three_works_of_the_right_class_are_learnt() -> None:
    assert learnt_subcategories(SAMPLES) == LEARNT
    assert learnt_subcategories(SAMPLES, min_works=1) == ("fps_scifi", "moba", "pets")
    assert learnt_subcategories(SAMPLES[:2]) == ()


def test_a_clip_is_right_if_what_is_served_names_its_own() -> None:
    clips = [SAMPLES[0], SAMPLES[1], SAMPLES[6], SAMPLES[7], SAMPLES[3]]
    said = [("gaming", "moba"), ("natural", "moba"), ("natural", "fps_scifi"), ("natural", "pets"), ("gaming", "moba")]
    found = measure_subcategories(answers(said, clips), LEARNT, 1.0, 50)
    assert (found["num_clips"], found["num_right"], found["top1"]) == (4, 3, 0.75)  # Halo's was not learnt
    assert found["by_class"]["gaming"] == {
        **found["by_class"]["gaming"],
        "num_clips": 2,
        "num_right": 1,
        "num_works": 2,
    }
    assert found["by_class"]["natural"]["top1"] == 1.0  # pets is the only one of natural that may be named
    assert "flat" not in found["by_class"]
    assert found["interval_95"][0] <= 0.75 <= found["interval_95"][1]
    assert measure_subcategories(answers(said[4:], clips[4:]), LEARNT, 1.0, 50) == {}


def test_one_who_is_too_sure_is_cooled() -> None:
    samples = works("gaming", "moba", "a b c d") + works("gaming", "fps_scifi", "e f g h")
    said = [
        ("gaming", name) for name in ("moba", "moba", "moba", "fps_scifi", "moba", "moba", "fps_scifi", "fps_scifi")
    ]
    learnt = ("fps_scifi", "moba")
    sure, doubtful = (fit_subcategory_temperature(answers(said, samples, size), learnt) for size in (8.0, 0.2))
    assert sure == 4.0  # 5 of 8 right is what logits half a nat apart say; the search ends there
    assert doubtful < 1
    assert fit_subcategory_temperature(answers(said, samples), ("pets",)) == 1.0


def test_what_a_bundle_keeps() -> None:
    said = answers([("gaming", "moba")] * 3, SAMPLES[:3])
    found = measure_all(SAMPLES, said, said, 20)
    assert (found["learnt"], found["min_works"], found["val"]["top1"]) == (list(LEARNT), 3, 1.0)
    assert measure_all(SAMPLES, None, said, 20)["temperature"] == 1.0
    assert measure_all(SAMPLES, None, None, 20) == {}


def test_a_weight_needs_labels_of_the_taxonomy() -> None:
    require_subcategories(SAMPLES, 0.5)
    unlabelled = [replace(each, subcategory="") for each in SAMPLES]
    require_subcategories(unlabelled, 0.0)
    with pytest.raises(DataError, match=r"head.subcategory_weight = 0.5 .* column 'subcategory' .*it is empty, or not"):
        require_subcategories(unlabelled, 0.5)
