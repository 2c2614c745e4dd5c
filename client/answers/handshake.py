"""A model's config to what the client must know of it before it sends anything. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reelkind.core import tensors
from reelkind.core.taxonomy.classes import CLASSES, check_learnt
from reelkind.core.tensors import TensorSpec

from ..transport.errors import ContractMismatch
from ..transport.transport import ModelConfig
from .prediction import ModelInfo

ANSWER_NAMES = (tensors.PROBABILITIES.name, tensors.ATTENTION.name, tensors.embedding(1).name)
FRAMES_NAME = tensors.FRAME_PROBABILITIES.name  # not of servers of earlier releases
SUBCATEGORIES_NAME = tensors.SUBCATEGORIES.name  # of servers whose members all have them
KINDS = ("classify", "features", "classify_features")

_REQUIRED = (
    *("contract_version", "kind", "num_frames", "frame_size_px", "classes", "members", "views", "temporal_views"),
    *("feature_dims", "member_weights", "weights"),
)


@dataclass(frozen=True)
class ServerInfo:
    """What a server said of one of its models before the first request.

    Attributes:
        url: where it answers.
        kind: ``classify`` (frames to answer), ``features`` (frames to features) or ``classify_features``.
        num_frames: T of a clip: what it was trained with, or what the client was made to look at.
        frame_size_px: S; frames of this size cross the wire without being scaled again.
        max_batch: most videos in one request.
        classes: names of the probabilities, in order.
        feature_dims: D by member, in the order of the members.
        abstain_below: confidence below which the label is withheld on request; None if the server knows none.
        model: who answers.
        tells_frames: whether it says what each frame shows; servers of earlier releases do not.
    """

    url: str
    kind: str
    num_frames: int
    frame_size_px: int
    max_batch: int
    classes: tuple[str, ...]
    feature_dims: Mapping[str, int]
    abstain_below: float | None
    model: ModelInfo
    tells_frames: bool = True

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Tensors the model takes, by name."""
        return self._features if self.kind == "classify_features" else {tensors.FRAMES.name: tensors.FRAMES}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors the model gives."""
        if self.kind == "features":
            return tuple(self._features)
        frames = (FRAMES_NAME,) if self.tells_frames else ()
        finer = () if self.model.subcategories_learnt is None else (SUBCATEGORIES_NAME,)
        return (*ANSWER_NAMES, *frames, *finer)

    @property
    def _features(self) -> dict[str, TensorSpec]:
        specs = (tensors.member_features(member, dim) for member, dim in self.feature_dims.items())
        return {spec.name: spec for spec in specs}


def read_config(config: ModelConfig, url: str) -> ServerInfo:
    """Handshake: a model's config to what the client must know.

    Raises:
        ContractMismatch: if the model is none of ours, or of another release.
    """
    values = config.parameters
    named = f"model {config.name!r} at {url}"
    version = values.get("contract_version")
    if version is not None and version != tensors.CONTRACT_VERSION:
        raise ContractMismatch(
            f"{named} speaks contract {version}, this client speaks {tensors.CONTRACT_VERSION}: "
            "use the same release of reelkind on both sides"
        )
    missing = [name for name in _REQUIRED if not values.get(name)]
    if missing:
        raise ContractMismatch(f"{named} is no ensemble of reelkind: its config lacks {', '.join(missing)}")
    classes = _split(values["classes"])
    if classes != CLASSES:
        raise ContractMismatch(f"{named} tells {', '.join(classes)} apart, this client knows {', '.join(CLASSES)}")
    try:
        info = _info(config, url)
    except ValueError as error:
        raise ContractMismatch(f"{named} does not describe itself in numbers: {error}") from error
    _check_border(config, info, named)
    return info


def _info(config: ModelConfig, url: str) -> ServerInfo:
    values = config.parameters
    members = _split(values["members"])
    model = ModelInfo(
        ensemble=config.name,
        members=members,
        member_weights=tuple(map(float, _split(values["member_weights"]))),
        untrained=_split(values.get("untrained", "")),
        views=_split(values["views"]),
        temporal_views=_split(values["temporal_views"]),
        weights=_split(values["weights"]),
        subcategories_learnt=_learnt(config),
    )
    threshold = values.get("abstain_below")
    return ServerInfo(
        url=url,
        kind=values["kind"],
        num_frames=int(values["num_frames"]),
        frame_size_px=int(values["frame_size_px"]),
        max_batch=config.max_batch,
        classes=_split(values["classes"]),
        feature_dims=dict(zip(members, map(int, _split(values["feature_dims"])), strict=True)),
        abstain_below=float(threshold) if threshold else None,
        model=model,
        tells_frames=FRAMES_NAME in config.outputs,
    )


def _learnt(config: ModelConfig) -> tuple[str, ...] | None:
    """Subcategories that may be named; None of a model that gives none."""
    if SUBCATEGORIES_NAME not in config.outputs:
        return None
    learnt = _split(config.parameters.get("subcategories_learnt", ""))
    try:
        check_learnt(learnt)
    except ValueError as error:
        raise ContractMismatch(f"model {config.name!r} of another release: {error}") from error
    return learnt


def _check_border(config: ModelConfig, info: ServerInfo, named: str) -> None:
    if info.kind not in KINDS:
        raise ContractMismatch(f"{named} is of the kind {info.kind!r}, this client knows {', '.join(KINDS)}")
    if set(config.inputs) != set(info.inputs) or not set(config.outputs).issuperset(info.outputs):
        taken, given = (", ".join(names) or "nothing" for names in (config.inputs, config.outputs))
        required = f"{', '.join(info.inputs)} to {', '.join(info.outputs)}"
        raise ContractMismatch(f"{named} takes {taken} and gives {given}; required: {required}")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()
