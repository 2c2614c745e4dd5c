"""Weights of members to their shares of the joint answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ExportError


def shares(weights: Sequence[float] | None, num_members: int) -> list[float]:
    """Weights of members as shares that sum to 1; equal ones for None.

    Raises:
        ExportError: if the weights do not fit the members.
    """
    given = [1.0] * num_members if weights is None else list(weights)
    usable = all(math.isfinite(weight) and weight >= 0 for weight in given) and 0 < sum(given) < math.inf
    if len(given) != num_members or not usable:
        raise ExportError(f"{num_members} member(s) need as many weights >= 0, not all 0; got {given}")
    return [weight / sum(given) for weight in given]
