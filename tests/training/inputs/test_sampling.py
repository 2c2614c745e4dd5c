from pathlib import Path

from reelkind.core.taxonomy.classes import CLASSES
from reelkind.datasets.sample import Sample
from reelkind.training.inputs.sampling import with_few_stills


def sample(name: str, work: str, subcategory: str = "moba") -> Sample:
    digest = f"{sum(map(ord, name)):064x}"
    return Sample(Path(name), CLASSES.index("gaming"), work, "stills", subcategory=subcategory, sha256=digest)


def test_stills_are_taken_from_as_many_works_as_there_are() -> None:
    many = [sample(f"a{i}.jpg", "one long film") for i in range(5)]
    few = [sample("b.jpg", "second work"), sample("c.jpg", "third work")]
    clip = sample("d.mp4", "one long film", "")
    kept = with_few_stills([*many, *few, clip], 3)
    assert {each.work for each in kept if each.is_still} == {"one long film", "second work", "third work"}
    assert len(kept) == 4
    assert kept[-1] == clip


def test_stills_of_no_subcategory_are_left_out() -> None:
    unknown, known = sample("a.jpg", "some work", "my own word"), sample("b.jpg", "other work")
    assert with_few_stills([unknown, known], 9) == [known]


def test_what_is_taken_does_not_depend_on_the_order() -> None:
    stills = [sample(f"{letter}.jpg", f"work of {letter * 9}") for letter in "qwertz"]
    forwards, backwards = with_few_stills(stills, 2), with_few_stills(stills[::-1], 2)
    assert forwards == backwards[::-1]
