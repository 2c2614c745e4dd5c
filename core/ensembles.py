"""How a deployment's graphs hang together: what each ensemble takes, runs and answers.

    frames ─► preprocess ─► backbone_<member> ─► head_<member> ─► average_<members> ─► answer
                        └─► backbone_<other>  ─► head_<other>  ─┘

Between backbone and head, temporal test-time augmentation puts ``temporal_views``; behind the head
``temporal_attention``. ``features_*`` ends at the backbones, ``classify_features_*`` starts behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import specs, tensors
from .bundle import Bundle
from .specs import ALL_MEMBERS, TEMPORAL_VIEWS, VIEWS, Graph
from .tensors import TensorSpec

ANY_VIEWS = ("any",)  # of an ensemble that is given features


@dataclass(frozen=True)
class Step:
    """A graph inside an ensemble: graph tensor name -> ensemble tensor name; outputs nobody reads are left out."""

    graph: Graph
    input_map: dict[str, str]
    output_map: dict[str, str]


@dataclass(frozen=True)
class Ensemble:
    """Steps from inputs to outputs; executed in parallel where they do not depend on each other.

    Attributes:
        name: model name on the server.
        kind: ``classify``, ``features`` or ``classify_features``.
        members: names, sorted.
        inputs, outputs: tensors at its border.
        steps: in an order in which they can be executed one after the other.
        views: of space, made from frames; ``ANY_VIEWS`` if it starts from features.
        temporal_views: of time, made from features.
    """

    name: str
    kind: str
    members: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    steps: tuple[Step, ...]
    views: tuple[str, ...]
    temporal_views: tuple[str, ...]


def deployment(bundles: Sequence[Bundle]) -> list[Ensemble]:
    """Every ensemble that is served with these members; the first one is the default.

    Raises:
        ValueError: if no bundle is given, or names of members or models occur twice.
    """
    if not bundles:
        raise ValueError("a deployment needs at least one member")
    groups: dict[str | None, Sequence[Bundle]] = {None: bundles[:1]} | {bundle.name: [bundle] for bundle in bundles}
    if len(bundles) > 1:
        groups[ALL_MEMBERS] = bundles
    ensembles = [ensemble for group, members in groups.items() for ensemble in _group(group, members)]
    _check_names(bundles, ensembles)
    return ensembles


def classify_ensemble(
    bundles: Sequence[Bundle], name: str = specs.DEFAULT_ENSEMBLE, views: str = "single", *, temporal: bool = False
) -> Ensemble:
    """Frames to answer through one or several members.

    Args:
        bundles: the members.
        name: of the model.
        views: key of ``VIEWS``.
        temporal: whether heads see the features in all orders of ``TEMPORAL_VIEWS``.

    Raises:
        ValueError: if no bundle is given, or two carry the same name.
    """
    members = _sorted(bundles)
    steps = _to_features(members, views) + _to_answer(members, temporal)
    return _ensemble("classify", name, members, (tensors.FRAMES,), steps, VIEWS[views], temporal)


def features_ensemble(bundles: Sequence[Bundle], name: str, views: str = "single") -> Ensemble:
    """Frames to every member's features; arguments as those of ``classify_ensemble``."""
    members = _sorted(bundles)
    return _ensemble("features", name, members, (tensors.FRAMES,), _to_features(members, views), VIEWS[views], False)


def classify_features_ensemble(bundles: Sequence[Bundle], name: str, *, temporal: bool = False) -> Ensemble:
    """Every member's features, of any number of views, to answer; arguments as those of ``classify_ensemble``."""
    members = _sorted(bundles)
    inputs = tuple(map(_named_features, members))
    return _ensemble("classify_features", name, members, inputs, _to_answer(members, temporal), ANY_VIEWS, temporal)


def _group(group: str | None, bundles: Sequence[Bundle]) -> list[Ensemble]:
    every = [(specs.models_of(group, name), tta) for name, tta in specs.TTA.items()]
    found = [classify_ensemble(bundles, names.classify, tta.views, temporal=tta.temporal) for names, tta in every]
    features = {names.features: tta.views for names, tta in every}  # some serve several kinds of augmentation
    answers = {names.classify_features: tta.temporal for names, tta in every}
    found += [features_ensemble(bundles, name, views) for name, views in features.items()]
    return found + [classify_features_ensemble(bundles, name, temporal=each) for name, each in answers.items()]


def _to_features(bundles: Sequence[Bundle], views: str) -> list[Step]:
    """Frames to ``features_<member>``; members of one size share the preprocessing."""
    steps: dict[str, Step] = {}
    for bundle in bundles:
        size = bundle.backbone.frame_size_px
        preprocess, backbone = specs.preprocess_graph(size, views), specs.backbone_graph(bundle)
        seen = f"views_{size}"
        steps[preprocess.name] = Step(preprocess, {"frames": "frames"}, {"views": seen})
        steps[backbone.name] = Step(backbone, {"views": seen}, {"features": _named_features(bundle).name})
    return list(steps.values())


def _to_answer(bundles: Sequence[Bundle], temporal: bool) -> list[Step]:
    """``features_<member>`` of all members to the answer."""
    average = specs.average_graph(bundles)
    averaged = {spec.name for spec in average.inputs}
    steps = []
    for bundle in bundles:
        head, features = specs.head_graph(bundle), _named_features(bundle).name
        named = {spec.name: f"{spec.name}_{bundle.name}" for spec in head.outputs}
        outputs = {name: target for name, target in named.items() if target in averaged}
        if not temporal:
            steps.append(Step(head, {"features": features}, outputs))
            continue
        passes, attention, frame_logits = f"passes_{bundle.name}", outputs["attention"], outputs["frame_logits"]
        outputs |= {name: f"pass_{name}_{bundle.name}" for name in ("attention", "frame_logits")}
        steps += [
            Step(specs.temporal_views_graph(), {"features": features}, {"passes": passes}),
            Step(head, {"features": passes}, outputs),
            Step(
                specs.temporal_attention_graph(),
                {f"pass_{name}": outputs[name] for name in ("attention", "frame_logits")},
                {"frame_attention": attention, "restored_frame_logits": frame_logits},
            ),
        ]
    inputs, answer = ({spec.name: spec.name for spec in border} for border in (average.inputs, average.outputs))
    return [*steps, Step(average, inputs, answer)]


def _ensemble(
    kind: str,
    name: str,
    bundles: Sequence[Bundle],
    inputs: tuple[TensorSpec, ...],
    steps: Sequence[Step],
    views: tuple[str, ...],
    temporal: bool,
) -> Ensemble:
    outputs = tuple(map(_named_features, bundles)) if kind == "features" else steps[-1].graph.outputs
    members = tuple(bundle.name for bundle in bundles)
    return Ensemble(
        name, kind, members, inputs, outputs, tuple(steps), views, TEMPORAL_VIEWS if temporal else TEMPORAL_VIEWS[:1]
    )


def _named_features(bundle: Bundle) -> TensorSpec:
    return tensors.member_features(bundle.name, bundle.backbone.feature_dim)


def _sorted(bundles: Sequence[Bundle]) -> list[Bundle]:
    names = [bundle.name for bundle in bundles]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"an ensemble needs members with different names, got {names}")
    return sorted(bundles, key=lambda bundle: bundle.name)


def _check_names(bundles: Sequence[Bundle], ensembles: Sequence[Ensemble]) -> None:
    """Names of models are put together from names of members, which may meet: ``a`` beside ``a_tta``."""
    names = [ensemble.name for ensemble in ensembles]
    for name in names:
        if names.count(name) > 1:
            members = ", ".join(bundle.name for bundle in bundles)
            raise ValueError(
                f"two models would be called {name!r}: rename one of the members {members} in its bundle.json"
            )
