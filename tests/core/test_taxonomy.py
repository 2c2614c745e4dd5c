"""core.taxonomy.classes against its own table and the published counts."""

from collections import Counter

from reelkind.core.taxonomy.classes import CLASSES, DESCRIPTIONS, NUM_CLASSES, subcategories


def test_there_are_four_classes_in_the_order_of_the_logits() -> None:
    assert CLASSES == ("animation", "gaming", "natural", "flat")
    assert NUM_CLASSES == 4


def test_every_class_is_described() -> None:
    assert set(DESCRIPTIONS) == set(CLASSES)


def test_there_are_46_subcategories_grouped_by_class() -> None:
    found = subcategories()
    assert len(found) == 46
    assert len({(sub.class_name, sub.name) for sub in found}) == 46
    order = [CLASSES.index(sub.class_name) for sub in found]
    assert order == sorted(order)
    assert set(Counter(order)) == set(range(NUM_CLASSES))


def test_entities_are_youtube_8m_labels_with_videos() -> None:
    for sub in subcategories():
        assert sub.entities, sub.name
        for entity in sub.entities:
            assert 0 <= entity.index <= 3861
            assert entity.name
            assert entity.num_train_videos > 0
