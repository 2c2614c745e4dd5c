"""A bundle to the configurations of the ensembles it would answer in, on a server that runs with an earlier one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reelkind.core import abstaining, specs
from reelkind.core.bundle import Bundle, weights_hash
from reelkind.core.taxonomy.classes import learnt_by_all
from reelkind.serving.errors import ServingError

from .versions import VersionedRepository

SUBCATEGORIES = "subcategories_learnt"  # parameter of the ensembles that name subcategories


def deployed_member(store: VersionedRepository, bundle: Bundle) -> dict[str, Any]:
    """Configurations of the ensembles that contain a member, which the bundle can take the place of.

    Raises:
        ServingError: if there are none, or the bundle has other sizes.
    """
    configs = store.ensembles()
    found = {name: config for name, config in configs.items() if bundle.name in members_of(config)}
    if not found:
        known = sorted({member for config in configs.values() for member in members_of(config)})
        raise ServingError(
            f"no member {bundle.name!r} is served from {store.folder} (there are: {', '.join(known) or 'none'}): "
            f"a new member needs a new start, reelkind serve --bundle {bundle.folder}"
        )
    for graph in (specs.backbone_graph(bundle), specs.head_graph(bundle)):
        config = store.config(graph.name)
        for border, deployed in ((graph.inputs, config.input), (graph.outputs, config.output)):
            ours = {spec.name: spec.triton_dims for spec in border}
            theirs = {tensor.name: list(tensor.dims) for tensor in deployed}
            if ours != theirs:
                raise ServingError(
                    f"{graph.name} is served with {_dims(theirs)}, the bundle in {bundle.folder} has {_dims(ours)}: "
                    "only a version of the same sizes can take its place; stop the server and start it with this bundle"
                )
    return found


def with_bundle(configs: Mapping[str, Any], everything: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """Configurations that say of a member what its new bundle says; versions are left as they are.

    Args:
        configs: of the ensembles that contain the member.
        everything: configurations of all ensembles.
        bundle: the member's new one.
    """
    frames_of = {
        member: int(config.parameters["num_frames"].string_value)
        for config in everything.values()
        if len(members_of(config)) == 1
        for member in members_of(config)
    } | {bundle.name: bundle.num_frames}
    learnt_of = _learnt_of(everything) | {bundle.name: bundle.subcategories_learnt}
    changed = {}
    for name, config in configs.items():
        new, members = type(config)(), members_of(config)
        new.CopyFrom(config)
        parameters = new.parameters
        weights = parameters["weights"].string_value.split(",")
        weights[members.index(bundle.name)] = weights_hash(bundle)
        temperatures = parameters["temperatures"].string_value.split(",")
        temperatures[members.index(bundle.name)] = repr(bundle.temperature)
        untrained = set(filter(None, parameters["untrained"].string_value.split(","))) - {bundle.name}
        untrained |= set() if bundle.trained else {bundle.name}
        parameters["weights"].string_value = ",".join(weights)
        parameters["temperatures"].string_value = ",".join(temperatures)
        parameters["untrained"].string_value = ",".join(sorted(untrained))
        parameters["trained"].string_value = "false" if untrained else "true"
        parameters["num_frames"].string_value = str(max(frames_of.get(member, 1) for member in members))
        if SUBCATEGORIES in parameters:
            named = learnt_by_all(learnt_of.get(member, ()) for member in members)
            parameters[SUBCATEGORIES].string_value = ",".join(named)
        parameters.pop("abstain_below", None)
        threshold = _threshold(new, bundle)
        if threshold is not None:
            parameters["abstain_below"].string_value = repr(threshold)
        changed[name] = new
    return changed


def _learnt_of(configs: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Subcategories that each member has learnt, told by the ensembles of it alone."""
    return {
        members_of(config)[0]: tuple(config.parameters[SUBCATEGORIES].string_value.split(","))
        for config in configs.values()
        if len(members_of(config)) == 1 and SUBCATEGORIES in config.parameters
    }


def _threshold(config: Any, bundle: Bundle) -> float | None:
    told = {key: value.string_value for key, value in config.parameters.items()}
    if told["kind"] == "features" or len(set(told["member_weights"].split(","))) > 1:
        return None
    names = members_of(config)
    if len(names) == 1:
        return bundle.abstain_below
    identities = zip(told["weights"].split(","), map(float, told["temperatures"].split(",")), strict=True)
    members = {name: abstaining.Identity(*each) for name, each in zip(names, identities, strict=True)}
    found = abstaining.remembered(bundle, members)
    return None if found is None else float(found["abstain_below"])


def neighbours(configs: Mapping[str, Any], bundle: Bundle, known: Iterable[Bundle]) -> dict[str, Bundle]:
    """Bundles that a member is averaged with, by name, exactly as they are served: an average holds their temperatures.

    Args:
        configs: of the ensembles that contain the member.
        bundle: the member's new one.
        known: bundles that may be served, several of one name among them.

    Raises:
        ServingError: if the one that is served is not among them.
    """
    found: dict[str, Bundle] = {}
    known = list(known)
    for config in configs.values():
        if config.parameters["kind"].string_value == "features":
            continue  # nothing is averaged
        for member in set(members_of(config)) - {bundle.name, *found}:
            found[member] = _served(config, member, [other for other in known if other.name == member])
    return found


def _served(config: Any, member: str, candidates: Sequence[Bundle]) -> Bundle:
    values = {key: config.parameters[key].string_value.split(",") for key in ("weights", "temperatures")}
    place = members_of(config).index(member)
    wanted = tuple(told[place] for told in values.values())
    for bundle in candidates:
        if (weights_hash(bundle), repr(bundle.temperature)) == wanted:
            return bundle
    folders = ", ".join(str(bundle.folder) for bundle in candidates)
    reason = (
        f"which is not served as it lies in {folders}"
        if folders
        else "which is served from a folder that is not known here"
    )
    raise ServingError(f"the member is averaged with {member}, {reason}: name the folder that is, with --other DIR")


def plainest_changed(store: VersionedRepository) -> Any:
    """What a step back would serve of the ensemble with the fewest members among those that it changes.

    Without an earlier version, or where it changes nothing, the first ensemble.
    """
    now, earlier = store.ensembles(), store.previous() or {}
    changed = [config for name, config in earlier.items() if _versions(config) != _versions(now[name])]
    return min(changed, key=lambda config: len(members_of(config)), default=next(iter(now.values())))


def _versions(config: Any) -> dict[str, int]:
    return {step.model_name: step.model_version for step in config.ensemble_scheduling.step}


def members_of(config: Any) -> list[str]:
    """Names of the members whose answers an ensemble averages."""
    return [name for name in config.parameters["members"].string_value.split(",") if name]


def _dims(borders: Mapping[str, list[int]]) -> str:
    return ", ".join(f"{name} {dims}" for name, dims in borders.items())
