"""Every ensemble of a running deployment against the same graphs run in this process.

Preprocessing, backbones and heads are run by ONNX Runtime here; temporal views, temperatures, shares and averages are
computed in NumPy, so that the graphs of those are tested, too. Both sides get the same clips: several numbers of
frames, of videos in a request and, for ``classify_features_*``, of views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reelkind.core.bundle import Bundle
from reelkind.core.ensembles import Ensemble, classify_features_ensemble, features_ensemble
from reelkind.core.features import tensor_name
from reelkind.core.specs import (
    FP32_TOLERANCE,
    VIEWS,
    Tolerance,
    average_graph,
    head_graph,
    temporal_attention_graph,
    temporal_views_graph,
)

from ..errors import ParityError
from ..pipelines.clips import ParityClip
from ..pipelines.reference import onnx_stages
from ..pipelines.steps import Stage, Tensors, run_steps
from ..pipelines.torch_pipeline import average_stage, temporal_attention_stage, temporal_views_stage
from ..repository.graph_files import find_graph_file
from ..repository.members import member_weights
from ..repository.repository import standard_ensembles

NUM_VIEWS_TRIED = (1, 2, len(VIEWS["tta"]))

Ask = Callable[[str, Mapping[str, np.ndarray]], Tensors]
"""Name of an ensemble and its inputs -> its outputs."""


@dataclass
class EnsembleReport:
    """How far the answers of one ensemble are from those computed here.

    Attributes:
        name: of the ensemble.
        tolerance: what is allowed.
        num_videos: compared; one video with several numbers of frames or views counts as several.
        max_abs: largest absolute difference of any probability, of classes, of a frame's classes or of subcategories;
            of features, relative to the largest where that exceeds 1.
        max_abs_attention, max_abs_embedding: likewise, not judged.
        num_agreeing: videos with the same label; all of them where there is none.
        worst: where ``max_abs`` was found.
    """

    name: str
    tolerance: Tolerance
    num_videos: int = 0
    max_abs: float = 0.0
    max_abs_attention: float = 0.0
    max_abs_embedding: float = 0.0
    num_agreeing: int = 0
    worst: str = ""

    @property
    def passed(self) -> bool:
        """Whether anything was compared and all of it agrees; differences that are not numbers never do."""
        agreeing = self.num_agreeing >= self.tolerance.top1_agreement * self.num_videos
        return self.num_videos > 0 and self.max_abs <= self.tolerance.max_abs and agreeing

    def add(self, where: str, expected: Tensors, given: Tensors) -> None:
        """Compare one answer."""
        for name, array in expected.items():
            difference = _difference(array, given[name]) if name in given else math.inf
            if name == "attention":
                self.max_abs_attention = max(self.max_abs_attention, difference)
            elif name == "embedding":
                self.max_abs_embedding = max(self.max_abs_embedding, difference)
            elif not difference < self.max_abs:
                self.max_abs, self.worst = difference, where
        num_videos = len(next(iter(expected.values())))
        self.num_videos += num_videos
        labels = [side["probabilities"].argmax(axis=-1) for side in (expected, given) if "probabilities" in side]
        self.num_agreeing += int((labels[0] == labels[1]).sum()) if labels else num_videos


def compare(
    bundles: Sequence[Bundle],
    ask: Ask,
    clips: Mapping[int, Sequence[ParityClip]],
    batches: Iterable[int] = (1,),
    tolerance: Tolerance = FP32_TOLERANCE,
    precision: str = "fp32",
) -> list[EnsembleReport]:
    """Ask every ensemble about every clip.

    Args:
        bundles: the members of the deployment, the default one first.
        ask: the deployment.
        clips: number of frames -> clips of that many frames, of the largest size that a member sees.
        batches: numbers of videos in a request.
        tolerance: what is allowed.
        precision: whose graphs the deployment's answers are compared with.

    Raises:
        ParityError: if there are fewer clips than videos in the smallest request.
    """
    stages = _stages(bundles, precision)
    reports = {ensemble.name: EnsembleReport(ensemble.name, tolerance) for ensemble in standard_ensembles(bundles)}
    for where, frames in _requests(clips, batches):
        found = run_steps(features_ensemble(bundles, "features", "tta"), stages, frames)
        features = {bundle.name: found[tensor_name(bundle.name)] for bundle in bundles}
        for ensemble in standard_ensembles(bundles):
            members = [bundle for bundle in bundles if bundle.name in ensemble.members]
            for num_views in _views_of(ensemble):
                some = {tensor_name(name): features[name][:, :num_views] for name in ensemble.members}
                feeds = some if ensemble.kind == "classify_features" else {"frames": frames}
                expected = some if ensemble.kind == "features" else _answer(ensemble, members, stages, some)
                reports[ensemble.name].add(f"{where} V={num_views}", expected, ask(ensemble.name, feeds))
    return list(reports.values())


def table(reports: Sequence[EnsembleReport]) -> str:
    """One line an ensemble."""
    width = max(len(report.name) for report in reports)
    rows = [f"{'ensemble':<{width}} {'videos':>6} {'max |d|':>8} {'allowed':>8} {'top-1':>7}  verdict"]
    rows += [
        f"{report.name:<{width}} {report.num_videos:>6} {report.max_abs:>8.1e} {report.tolerance.max_abs:>8.0e} "
        f"{report.num_agreeing / max(1, report.num_videos):>7.1%}  "
        + ("pass" if report.passed else f"FAIL on {report.worst}")
        for report in reports
    ]
    return "\n".join(rows)


def as_json(reports: Sequence[EnsembleReport]) -> list[dict[str, Any]]:
    """The table as plain values."""
    return [asdict(report) | {"passed": report.passed} for report in reports]


def _stages(bundles: Sequence[Bundle], precision: str) -> dict[str, Stage]:
    members, everything = {bundle.name: bundle for bundle in bundles}, features_ensemble(bundles, "features", "tta")
    graphs = [step.graph for step in everything.steps] + [head_graph(bundle) for bundle in bundles]
    shares = dict(zip(sorted(members), member_weights(bundles), strict=True))
    return {
        **onnx_stages({graph: find_graph_file(graph, members, precision) for graph in graphs}, precision=precision),
        temporal_views_graph().name: temporal_views_stage(),
        temporal_attention_graph().name: temporal_attention_stage(),
        **{average_graph([bundle]).name: average_stage([bundle]) for bundle in bundles},
        average_graph(bundles).name: average_stage(bundles, [shares[bundle.name] for bundle in bundles]),
    }


def _requests(clips: Mapping[int, Sequence[ParityClip]], batches: Iterable[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Where we are, and frames uint8 [B, T, S, S, 3]."""
    for size in batches:
        for num_frames, several in clips.items():
            chosen = [several[start : start + size] for start in range(0, len(several) - size + 1, size)]
            if not chosen:
                raise ParityError(f"{len(several)} clips are too few for {size} videos in a request: name more --clips")
            for chunk in chosen:
                names = "+".join(clip.name for clip in chunk)
                yield f"{names} at B={size} T={num_frames}", np.stack([clip.frames for clip in chunk])


def _views_of(ensemble: Ensemble) -> tuple[int, ...]:
    return NUM_VIEWS_TRIED if ensemble.kind == "classify_features" else (len(ensemble.views),)


def _answer(ensemble: Ensemble, members: Sequence[Bundle], stages: Mapping[str, Stage], features: Tensors) -> Tensors:
    temporal = len(ensemble.temporal_views) > 1
    found = run_steps(classify_features_ensemble(members, ensemble.name, temporal=temporal), stages, *features.values())
    return {spec.name: found[spec.name] for spec in ensemble.outputs}


def _difference(expected: np.ndarray, given: np.ndarray) -> float:
    if expected.shape != given.shape:
        return math.inf
    error = float(np.abs(expected.astype(np.float64) - given).max()) / max(1.0, float(np.abs(expected).max()))
    return error if math.isfinite(error) else math.inf
