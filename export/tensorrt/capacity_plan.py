"""How many videos a day a slice carries, from what each stage costs, measured by a server or stated; never assumed.

The utilisation law (Denning and Buzen, The Operational Analysis of Queueing Network Models, 1978): what is busy for a
share U of the time and spends S on each video finishes X = U / S of them. A slice computes one execution at a time, so
S is the sum over the stages that run on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelkind.core import specs
from reelkind.core.bundle import Bundle

from ..errors import ExportError

DAY_MS = 86_400_000
ON_SLICE = ("backbone", "head")  # engines; the rest of an ensemble runs on the host's processors
ON_HOST = ("preprocess", "temporal", "average")

_PARTS = ("compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class StageCost:
    """What one video costs at one stage.

    Attributes:
        stage: model name, e.g. ``backbone_clip``.
        ms: of the slice or of one processor, for one video at the batch size reached.
        source: where the number is from.
    """

    stage: str
    ms: float
    source: str

    @property
    def on_slice(self) -> bool:
        """Whether it occupies the slice; else a processor of the host."""
        return self.stage.startswith(ON_SLICE)


@dataclass(frozen=True)
class CapacityPlan:
    """What a number of videos a day asks of slices.

    Attributes:
        costs: of every stage known.
        utilisation: share of the time that a slice may be busy; the rest absorbs that videos do not come evenly.
        wanted_per_day: videos.
    """

    costs: tuple[StageCost, ...]
    utilisation: float
    wanted_per_day: int

    @property
    def slice_ms(self) -> float:
        """Of the slice, for one video."""
        return sum(cost.ms for cost in self.costs if cost.on_slice)

    @property
    def host_ms(self) -> float:
        """Of one processor, for one video; decoding is the client's and not in it."""
        return sum(cost.ms for cost in self.costs if not cost.on_slice)

    @property
    def videos_per_day(self) -> int:
        """That one slice carries."""
        return round(DAY_MS * self.utilisation / self.slice_ms)

    @property
    def slices(self) -> int:
        """That the wanted number needs."""
        return max(1, math.ceil(self.wanted_per_day * self.slice_ms / (DAY_MS * self.utilisation)))

    @property
    def processors(self) -> float:
        """Of the host, busy all day with the wanted number, beside the slices."""
        return self.wanted_per_day * self.host_ms / DAY_MS


def plan_capacity(
    bundles: Sequence[Bundle], costs: Sequence[StageCost], wanted_per_day: int, utilisation: float
) -> CapacityPlan:
    """Check that the costs are those of these members, and put them together.

    Raises:
        ExportError: if a stage that runs on the slice has no cost, or a cost is of no stage of these members.
    """
    graphs = {graph(bundle).name for bundle in bundles for graph in (specs.backbone_graph, specs.head_graph)}
    known = {cost.stage for cost in costs}
    if missing := sorted(graphs - known):
        raise ExportError(
            f"nobody has said what {', '.join(missing)} cost: measure on the slice (--costs-from URL) or state "
            f"them, e.g. --cost-ms {missing[0]}=MS"
        )
    strangers = sorted(stage for stage in known - graphs if not stage.startswith(ON_HOST))
    if strangers:
        raise ExportError(f"no stage of these members is called {', '.join(strangers)}: {', '.join(sorted(graphs))}")
    return CapacityPlan(
        tuple(sorted(costs, key=lambda cost: (not cost.on_slice, cost.stage))), utilisation, wanted_per_day
    )


def measured_costs(statistics: Mapping[str, Any], source: str, stages: Sequence[str]) -> list[StageCost]:
    """Costs out of a server's own count since it started.

    Triton's metrics add an execution's duration to each of its requests, which makes large batches count too much; its
    statistics have the duration of executions, once each, by batch size.

    Args:
        statistics: answer of ``/v2/models/stats``.
        source: where it is from.
        stages: names, or beginnings of names, of the models wanted.

    Raises:
        ExportError: if none of them has computed anything, or this is no such answer.
    """
    try:
        found = [
            (model["name"], sum(batch[part]["ns"] for batch in model["batch_stats"] for part in _PARTS), videos)
            for model in statistics["model_stats"]
            if model["name"].startswith(tuple(stages)) and (videos := int(model.get("inference_count", 0)))
        ]
    except (KeyError, TypeError) as error:
        raise ExportError(f"{source} is no answer of /v2/models/stats: it lacks {error}") from error
    if not found:
        raise ExportError(f"{source} has counted no inference of {', '.join(stages)}: send it some work first")
    return [
        StageCost(name, ns / videos / 1e6, f"measured at {source}, {videos:,} videos") for name, ns, videos in found
    ]
