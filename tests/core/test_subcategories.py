"""Subcategories and their names: what agrees with the classes, and what may be named."""

import numpy as np
import pytest

from reelkind.core.taxonomy import classes as taxonomy
from reelkind.core.taxonomy.classes import CLASSES, check_learnt, learnt_by_all, places_of_classes, subcategory_names
from reelkind.core.taxonomy.subcategories import distribution, likeliest

RNG = np.random.default_rng(0)
LEARNT = ("cg3d_feature", "anime_mecha", "moba", "fps_scifi", "pets")  # nothing of flat


def test_there_are_as_many_as_the_tensors_say_and_each_class_has_its_own_in_a_row() -> None:
    kinds = taxonomy.subcategories()
    assert len(kinds) == len(set(subcategory_names())) == taxonomy.NUM_SUBCATEGORIES
    assert [kind.class_name for kind in kinds] == [
        name for name, places in places_of_classes().items() for _ in range(places.stop - places.start)
    ]


def test_shares_of_a_class_sum_to_it_and_what_was_not_learnt_has_none() -> None:
    classes = RNG.dirichlet(np.ones(4), size=(3, 2))
    logits = RNG.normal(size=(3, 2, 46)) * 5
    found = distribution(logits, classes, LEARNT, temperature=2.0)
    assert found.shape == (3, 2, 46)
    for number, (name, places) in enumerate(places_of_classes().items()):
        np.testing.assert_allclose(found[..., places].sum(-1), classes[..., number], atol=1e-12)
        learnt = [subcategory_names().index(each) for each in LEARNT]
        inside = [place for place in range(places.start, places.stop) if place in learnt]
        if name == "flat":
            assert np.ptp(found[..., places], axis=-1).max() < 1e-15
            continue
        powers = np.exp(logits[..., inside] / 2)
        expected = powers / powers.sum(-1, keepdims=True) * classes[..., number, None]
        np.testing.assert_allclose(found[..., inside], expected, atol=1e-12)
        silent = sorted(set(range(places.start, places.stop)) - set(inside))
        assert (found[..., silent] == 0).all()


def test_logits_of_what_was_not_learnt_never_count() -> None:
    classes, logits = RNG.dirichlet(np.ones(4)), RNG.normal(size=46)
    loud = logits + np.where([name in LEARNT for name in subcategory_names()], 0.0, 1e5)
    np.testing.assert_array_equal(distribution(loud, classes, LEARNT), distribution(logits, classes, LEARNT))


def test_the_likeliest_is_one_of_the_class_that_was_learnt() -> None:
    probabilities = np.full(46, 0.01)
    names = subcategory_names()
    probabilities[names.index("sandbox_voxel")] = 0.5
    probabilities[names.index("fps_scifi")] = 0.2
    assert likeliest(probabilities, "gaming", LEARNT) == ("fps_scifi", pytest.approx(0.2))
    assert likeliest(probabilities, "gaming", names) == ("sandbox_voxel", pytest.approx(0.5))
    assert likeliest(probabilities, "flat", LEARNT) is None


def test_several_have_learnt_what_each_of_them_has() -> None:
    assert learnt_by_all([("pets", "moba", "piano_roll_falling_notes"), ("moba", "pets")]) == ("moba", "pets")
    assert learnt_by_all([]) == ()
    assert learnt_by_all([subcategory_names(), ()]) == ()


def test_names_that_the_taxonomy_lacks_are_named() -> None:
    check_learnt(subcategory_names())
    with pytest.raises(ValueError, match=r"unknown subcategories dinosaurs, trains \(known: anime_shonen_action, "):
        check_learnt(["trains", "moba", "dinosaurs"])
    with pytest.raises(ValueError, match="occur twice"):
        check_learnt(["moba", "moba"])
    assert tuple(places_of_classes()) == CLASSES
