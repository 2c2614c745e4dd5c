"""Triton's statistics to where the time of a request went: in which model's queue, input, execution and output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import InferenceServerClient

STAGES = ("queue", "input", "infer", "output")
_FIELDS = {"queue": "queue", "input": "compute_input", "infer": "compute_infer", "output": "compute_output"}


@dataclass(frozen=True)
class Counts:
    """What a model has done since the server started.

    Attributes:
        requests: answered.
        videos: answered.
        executions: of the model; fewer than videos where requests shared one.
        total_ns: from arrival to answer, over all requests.
        stage_ns: stage -> time over all requests.
    """

    requests: int = 0
    videos: int = 0
    executions: int = 0
    total_ns: int = 0
    stage_ns: Mapping[str, int] | None = None

    def __sub__(self, earlier: Counts) -> Counts:
        mine, theirs = self.stage_ns or {}, earlier.stage_ns or {}
        return Counts(
            self.requests - earlier.requests,
            self.videos - earlier.videos,
            self.executions - earlier.executions,
            self.total_ns - earlier.total_ns,
            {stage: mine.get(stage, 0) - theirs.get(stage, 0) for stage in STAGES},
        )


Snapshot = dict[str, Counts]
"""Model -> counts."""


def snapshot(client: InferenceServerClient) -> Snapshot:
    """The counts of every model now."""
    return {model.name: _counts(model) for model in client.get_inference_statistics().model_stats}


def _counts(model: Any) -> Counts:
    found = model.inference_stats
    stage_ns = {stage: int(getattr(found, field).ns) for stage, field in _FIELDS.items()}
    return Counts(
        int(found.success.count),
        int(model.inference_count),
        int(model.execution_count),
        int(found.success.ns),
        stage_ns,
    )


def between(before: Snapshot, after: Snapshot, model: str, steps: Sequence[str]) -> dict[str, Any]:
    """Milliseconds a request of ``model`` spent, by stage and by step; empty if nothing was answered.

    Args:
        before: counts at the start of a load.
        after: counts at its end.
        model: that was asked.
        steps: the models that answer for it; steps that run side by side are added up all the same.
    """
    nothing = Counts()
    spent = {name: after.get(name, nothing) - before.get(name, nothing) for name in {model, *steps}}
    num_requests = spent[model].requests
    if not num_requests:
        return {}
    stages = {
        step: {f"{stage}_ms": _ms(spent[step].stage_ns, stage, num_requests) for stage in STAGES}
        | {"videos": spent[step].videos, "executions": spent[step].executions}
        for step in steps
    }
    sums = {f"{stage}_ms": round(sum(found[f"{stage}_ms"] for found in stages.values()), 3) for stage in STAGES}
    return {"server_ms": round(spent[model].total_ns / num_requests / 1e6, 3), **sums, "stages": stages}


def _ms(stage_ns: Mapping[str, int] | None, stage: str, num_requests: int) -> float:
    return round((stage_ns or {}).get(stage, 0) / num_requests / 1e6, 3)
