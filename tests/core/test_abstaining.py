from dataclasses import replace
from pathlib import Path

import pytest

from reelkind.core import bundle as bundles
from reelkind.core.abstaining import JOINT, threshold, with_joint
from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, BackboneInfo, Bundle, HeadInfo


@pytest.fixture
def members(tmp_path: Path) -> list[Bundle]:
    return [make(name, tmp_path / name) for name in ("one", "two", "three")]


def make(name: str, folder: Path) -> Bundle:
    made = Bundle(name, BackboneInfo("mobilenet_v2", 8, 32), HeadInfo(8, 16), num_frames=4)
    saved = bundles.save(replace(made, metrics={"abstain": {"abstain_below": 0.7}}), folder)
    for weights in (BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME):
        saved.path(weights).write_bytes(name.encode())
    return saved


def remembering(bundle: Bundle, together: list[Bundle], abstain_below: float) -> Bundle:
    found = {"abstain_below": abstain_below, "wanted_accuracy": 0.95}
    return bundles.save(replace(bundle, metrics=with_joint(bundle.metrics, together, found)), bundle.path())


def test_a_single_member_has_the_threshold_of_its_validation(members: list[Bundle]) -> None:
    assert threshold(members[:1]) == 0.7


def test_members_together_have_one_if_any_of_them_remembers_it(members: list[Bundle]) -> None:
    one, two, three = members
    assert threshold([one, two]) is None
    one = remembering(one, [two, one], 0.8942553179519763)
    assert threshold([one, two]) == threshold([two, one]) == 0.8942553179519763
    assert threshold([one, three]) is None
    assert threshold([one, two, three]) is None
    assert threshold([one]) == 0.7


def test_a_threshold_is_forgotten_with_the_weights_and_temperature_it_was_chosen_for(members: list[Bundle]) -> None:
    one, two, _ = members
    one = remembering(one, [one, two], 0.8)
    assert threshold([one, replace(two, temperature=1.1)]) is None
    two.path(HEAD_WEIGHTS_NAME).write_bytes(b"trained anew")
    assert threshold([one, two]) is None


def test_chosen_again_it_is_replaced_and_other_sets_stay(members: list[Bundle]) -> None:
    one, two, three = members
    one = remembering(remembering(one, [one, two], 0.8), [one, three], 0.6)
    two = replace(two, temperature=2.0)
    one = remembering(one, [one, two], 0.9)
    assert (threshold([one, two]), threshold([one, three])) == (0.9, 0.6)
    assert len(one.metrics[JOINT]) == 2
