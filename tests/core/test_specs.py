"""core.specs: names of models are the contract's."""

import pytest

from core.test_bundle import make
from reelkind.core import specs


@pytest.mark.parametrize(
    ("group", "tta", "names"),
    [
        (None, "off", ("classify", "features", "classify_features")),
        (None, "full", ("classify_tta", "features_tta", "classify_features_tta")),
        ("lite2", "off", ("classify_lite2", "features_lite2", "classify_features_lite2")),
        ("lite2", "fast", ("classify_lite2_tta_fast", "features_lite2", "classify_features_lite2_tta")),
        ("ensemble", "full", ("classify_ensemble_tta", "features_ensemble_tta", "classify_features_ensemble_tta")),
    ],
)
def test_names_of_models(group: str | None, tta: str, names: tuple[str, ...]) -> None:
    makers = (specs.classify_name, specs.features_name, specs.classify_features_name)
    assert tuple(make_name(group, tta) for make_name in makers) == names


def test_unknown_augmentation_is_named() -> None:
    with pytest.raises(ValueError, match="unknown test-time augmentation 'slow', known: off, fast, full"):
        specs.classify_name(None, "slow")


def test_no_order_of_members_changes_their_average() -> None:
    one, two = make("one"), make("two")
    assert specs.average_graph([one, two]) == specs.average_graph([two, one])


def test_every_set_of_views_begins_with_the_plain_one() -> None:
    assert {views[0] for views in specs.VIEWS.values()} == {"identity"}
    assert specs.TEMPORAL_VIEWS[0] == "forward"
    assert specs.PROFILES["head"]["V"].most == specs.MAX_VIEWS * len(specs.TEMPORAL_VIEWS)
