"""Below which confidence members should rather say nothing, as validation of them found it and their bundles keep it.

What members say together has a threshold of its own. It belongs to the weights and temperatures it was chosen with: a
member that is trained anew has none beside the others until ``reelkind evaluate --record`` has measured them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .bundle import Bundle, weights_hash

JOINT = "abstain_together"  # key of ``Bundle.metrics``: a list of what was chosen, one entry a set of members


@dataclass(frozen=True)
class Identity:
    """What a member's answers depend on: ``weights_hash`` of its bundle, and its temperature."""

    weights: str
    temperature: float

    @classmethod
    def of(cls, bundle: Bundle) -> Identity:
        """That of a bundle on disk."""
        return cls(weights_hash(bundle), bundle.temperature)


def threshold(bundles: Sequence[Bundle]) -> float | None:
    """The confidence below which members, averaged with equal shares, should not answer; None where unknown."""
    if len(bundles) == 1:
        return bundles[0].abstain_below
    found = joint(bundles)
    return None if found is None else float(found["abstain_below"])


def joint(bundles: Sequence[Bundle]) -> Mapping[str, Any] | None:
    """What was chosen for several members together, if one of their bundles remembers them as they are now."""
    members = {bundle.name: Identity.of(bundle) for bundle in bundles}
    known = (remembered(bundle, members) for bundle in bundles)
    return next((each for each in known if each is not None), None)


def remembered(bundle: Bundle, members: Mapping[str, Identity]) -> Mapping[str, Any] | None:
    """What a bundle remembers of several members, exactly these; None where it does not."""
    entries: Sequence[Mapping[str, Any]] = bundle.metrics.get(JOINT, ())
    return next((each for each in entries if each["members"] == _described(members)), None)


def with_joint(metrics: Mapping[str, Any], bundles: Sequence[Bundle], found: Mapping[str, Any]) -> dict[str, Any]:
    """A bundle's metrics with a threshold of several members; one of the same names is replaced.

    Args:
        metrics: of one of the bundles.
        bundles: all of them, on disk.
        found: ``abstain_below``, and what it was chosen for.
    """
    members = _described({bundle.name: Identity.of(bundle) for bundle in bundles})
    others = [each for each in metrics.get(JOINT, ()) if each["members"].keys() != members.keys()]
    return {**metrics, JOINT: [*others, {"members": members, **found}]}


def _described(members: Mapping[str, Identity]) -> dict[str, Any]:
    return {name: asdict(members[name]) for name in sorted(members)}
