"""core.specs: an ensemble's wiring holds together; walked like Triton does, from the input to the answer."""

import pytest

from core.test_bundle import make
from reelkind.core import specs, tensors
from reelkind.core.bundle import BackboneInfo, Bundle, HeadInfo
from reelkind.core.specs import Ensemble


def resnet(name: str = "full", size_px: int = 224) -> Bundle:
    return make(
        name, backbone=BackboneInfo("resnet50", 2048, size_px), head=HeadInfo(feature_dim=2048, width=256, num_layers=1)
    )


ENSEMBLES = {
    "one": specs.classify_ensemble([make()]),
    "one-tta": specs.classify_ensemble([make()], "classify_tta", views="tta"),
    "two": specs.classify_ensemble([make(), resnet()]),
    "two-sizes": specs.classify_ensemble([make(), resnet(size_px=288)]),
}


@pytest.mark.parametrize("ensemble", ENSEMBLES.values(), ids=ENSEMBLES.keys())
def test_every_step_is_fed_what_it_takes(ensemble: Ensemble) -> None:
    known = {spec.name: spec for spec in ensemble.inputs}
    for step in ensemble.steps:
        assert set(step.input_map) == {spec.name for spec in step.graph.inputs}
        assert set(step.output_map) == {spec.name for spec in step.graph.outputs}
        for spec in step.graph.inputs:
            source = known[step.input_map[spec.name]]
            assert (source.dtype, source.shape) == (spec.dtype, spec.shape)
        for spec in step.graph.outputs:
            assert step.output_map[spec.name] not in known, "two steps write the same tensor"
            known[step.output_map[spec.name]] = spec
    for spec in ensemble.outputs:
        assert known[spec.name] == spec


def test_members_of_one_size_share_the_preprocessing() -> None:
    kinds = [step.graph.kind for step in ENSEMBLES["two"].steps]
    assert kinds.count("preprocess") == 1
    assert kinds.count("backbone") == kinds.count("head") == 2
    assert [step.graph.kind for step in ENSEMBLES["two-sizes"].steps].count("preprocess") == 2


def test_embeddings_lie_side_by_side() -> None:
    assert ENSEMBLES["two"].outputs[-1] == tensors.embedding(512 + 256)


def test_the_answer_of_every_ensemble_has_the_same_names() -> None:
    assert {tuple(spec.name for spec in ensemble.outputs) for ensemble in ENSEMBLES.values()} == {
        ("probabilities", "attention", "embedding")
    }


def test_graphs_that_differ_have_different_names() -> None:
    by_name: dict[str, object] = {}
    for ensemble in ENSEMBLES.values():
        for step in ensemble.steps:
            if step.graph.name == "backbone_full":
                continue  # the two bundles called "full" here are alternatives
            key = (step.graph.inputs, step.graph.outputs)
            if step.graph.kind != "average":
                assert by_name.setdefault(step.graph.name, key) == key


@pytest.mark.parametrize("bundles", [[], [make(), make()]], ids=["none", "same-name-twice"])
def test_members_need_different_names(bundles: list[Bundle]) -> None:
    with pytest.raises(ValueError, match="members with different names"):
        specs.classify_ensemble(bundles)
