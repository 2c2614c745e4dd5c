"""core.ensembles: the wiring holds together; walked like Triton does, from the input to the answer."""

import pytest

from core.test_bundle import make
from reelkind.core import ensembles, tensors
from reelkind.core.bundle import BackboneInfo, Bundle, HeadInfo
from reelkind.core.ensembles import Ensemble, classify_ensemble, deployment
from reelkind.core.specs import VIEWS
from reelkind.core.tensors import TensorSpec


def resnet(name: str = "full", size_px: int = 224) -> Bundle:
    return make(
        name, backbone=BackboneInfo("resnet50", 2048, size_px), head=HeadInfo(feature_dim=2048, width=256, num_layers=1)
    )


def with_subcategories(name: str) -> Bundle:
    return make(name, head=HeadInfo(1280, 512, num_subcategories=46), subcategories_learnt=("moba",))


TWO_SIZES = [make(), resnet(size_px=288)]
DEPLOYED = {ensemble.name: ensemble for ensemble in deployment(TWO_SIZES)}
MIXED = {ensemble.name: ensemble for ensemble in deployment([with_subcategories("fine"), make()])}


def fits(source: TensorSpec, target: TensorSpec) -> bool:
    """Free axes that all members share stand for anything."""
    axes = zip(source.shape, target.shape, strict=True)
    return source.dtype == target.dtype and all(
        given == wanted or "D" in (given, wanted) or {given, wanted} <= {"V", "P"} for given, wanted in axes
    )


@pytest.mark.parametrize(
    "ensemble", [*DEPLOYED.values(), *MIXED.values()], ids=[*DEPLOYED, *(f"{name}-mixed" for name in MIXED)]
)
def test_every_step_is_fed_what_it_takes(ensemble: Ensemble) -> None:
    known = {spec.name: spec for spec in ensemble.inputs}
    for step in ensemble.steps:
        assert set(step.input_map) == {spec.name for spec in step.graph.inputs}
        given = {spec.name for spec in step.graph.outputs}
        unread = {"subcategory_logits"} if ensemble.members == ("fine", "lite") else set()
        assert set(step.output_map) == given - unread
        for spec in step.graph.inputs:
            assert fits(known[step.input_map[spec.name]], spec)
        for spec in (spec for spec in step.graph.outputs if spec.name in step.output_map):
            assert step.output_map[spec.name] not in known, "two steps write the same tensor"
            known[step.output_map[spec.name]] = spec
    for spec in ensemble.outputs:
        assert fits(known[spec.name], spec)


def test_subcategories_come_out_where_every_member_has_them() -> None:
    with_output = {name for name, ensemble in MIXED.items() if tensors.SUBCATEGORIES in ensemble.outputs}
    kinds = ("classify{}", "classify{}_tta_fast", "classify{}_tta", "classify_features{}", "classify_features{}_tta")
    assert with_output == {kind.format(group) for kind in kinds for group in ("", "_fine")}
    both = classify_ensemble([with_subcategories("one"), with_subcategories("two")], temporal=True)
    assert both.outputs[-1] == tensors.SUBCATEGORIES


def test_a_deployment_offers_each_member_all_and_a_default() -> None:
    kinds = ("classify{}", "classify{}_tta_fast", "classify{}_tta", "features{}", "features{}_tta")
    kinds += ("classify_features{}", "classify_features{}_tta")
    groups = ("", "_lite", "_full", "_ensemble")
    assert set(DEPLOYED) == {kind.format(group) for kind in kinds for group in groups}
    assert next(iter(DEPLOYED)) == "classify"
    assert DEPLOYED["classify"].members == ("lite",)  # the first one given
    assert DEPLOYED["classify_ensemble"].members == ("full", "lite")  # by name


def test_one_member_alone_makes_no_ensemble_of_all() -> None:
    assert not [name for name in (each.name for each in deployment([make()])) if "ensemble" in name]


def test_members_of_one_size_share_the_preprocessing() -> None:
    def kinds(ensemble: Ensemble) -> list[str]:
        return [step.graph.kind for step in ensemble.steps]

    two = kinds(classify_ensemble([make(), resnet()]))
    assert two.count("preprocess") == 1
    assert two.count("backbone") == two.count("head") == 2
    assert kinds(DEPLOYED["classify_ensemble"]).count("preprocess") == 2


def test_fast_augmentation_adds_no_pass_through_a_backbone() -> None:
    off, fast = DEPLOYED["classify_lite"], DEPLOYED["classify_lite_tta_fast"]
    frames = [
        [step for step in ensemble.steps if step.graph.kind in ("preprocess", "backbone")] for ensemble in (off, fast)
    ]
    assert frames[0] == frames[1]
    assert (fast.views, len(fast.temporal_views)) == (("identity",), 3)
    assert DEPLOYED["classify_lite_tta"].views == VIEWS["tta"]


def test_features_of_a_deployment_are_what_its_heads_take() -> None:
    for group in ("lite", "full", "ensemble"):
        assert DEPLOYED[f"features_{group}"].outputs == DEPLOYED[f"classify_features_{group}"].inputs
    names = [spec.name for spec in DEPLOYED["features_ensemble"].outputs]
    assert names == ["features_full", "features_lite"]


def test_embeddings_lie_side_by_side() -> None:
    assert classify_ensemble([make(), resnet()]).outputs[2] == tensors.embedding(512 + 256)


def test_every_ensemble_that_answers_tells_of_frames() -> None:
    for ensemble in (*DEPLOYED.values(), *MIXED.values()):
        assert (tensors.FRAME_PROBABILITIES in ensemble.outputs) == (ensemble.kind != "features")


@pytest.mark.parametrize("bundles", [[], [make(), make()]], ids=["none", "same-name-twice"])
def test_members_need_different_names(bundles: list[Bundle]) -> None:
    with pytest.raises(ValueError, match="members with different names"):
        classify_ensemble(bundles)
    with pytest.raises(ValueError, match="member"):
        deployment(bundles)


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (("a", "a_tta"), "classify_a_tta"),
        (("a", "features_a"), "classify_features_a"),
    ],
)
def test_names_of_models_that_meet_are_refused(names: tuple[str, ...], clash: str) -> None:
    with pytest.raises(ValueError, match=f"two models would be called '{clash}': rename one of the members a, "):
        deployment([make(name) for name in names])


def test_what_is_given_features_does_not_say_which_views_they_are_of() -> None:
    assert DEPLOYED["classify_features_lite"].views == ensembles.ANY_VIEWS
