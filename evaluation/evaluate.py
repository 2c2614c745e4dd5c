"""Bundles and a folder of labelled files to the report's numbers; the order of work of ``reelkind evaluate``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from reelkind.client import ProcessDecoder
from reelkind.core.abstaining import joint
from reelkind.core.bundle import HELD_OUT_NAME, Bundle
from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.datasets.grouping import origin_groups
from reelkind.datasets.sample import Sample
from reelkind.datasets.samples import MANIFEST_NAME, read_samples
from reelkind.datasets.seen import seen_by
from reelkind.evaluation.card import ABSTAIN
from reelkind.evaluation.damages import DAMAGES
from reelkind.evaluation.ensembling import ensemble_summary
from reelkind.evaluation.measures.baselines import baseline_scores
from reelkind.evaluation.measures.predictions import Predictions, load, save
from reelkind.evaluation.plots import contact_sheet
from reelkind.evaluation.shortcuts import make_copies, shortcut_summary
from reelkind.evaluation.summary import baseline_rows, member_summary, pairwise, tta_summary

from .predict import Member, MemberAnswer, answers

CONTACT_SHEET_NAME = "wrong_not_for_publication.png"
HELD_OUT = "held-out"  # what training predicted of works it had not seen, taken for a split
INTERVALS = (
    "Intervals of accuracy and macro-F1 are bootstraps over whole works; McNemar's test and Wilson's intervals take "
    "clips for independent, which flatters them."
)
_PICTURE_PX = 192


@dataclass(frozen=True)
class Wanted:
    """What is measured, and on what.

    Attributes:
        out: folder of the report; ``predictions_<member>.npz`` go there too.
        cache: folder where answers and damaged copies are kept.
        split: ``"train"``, ``"val"``, ``"test"`` or `HELD_OUT`.
        data: holds manifest.csv, or folders that hold one each; None for `HELD_OUT`, which reads no files.
        sources: folders of ``data``; None for all that have a manifest.
        readings: in ``data``: a second reading that corrects the manifests; "" for none.
        tta: also with test-time augmentation.
        shortcuts: also on damaged copies of every file.
        baselines: also simple classifiers, trained on the split "train".
        contact_sheet: whether wrong clips are drawn.
        wanted_accuracy: of the answers kept when unsure ones are withheld, 0 .. 1.
        workers: processes that decode; None for one a CPU.
    """

    out: Path
    cache: Path
    split: str
    data: Path | None = None
    sources: Sequence[str] | None = None
    readings: str = ""
    tta: bool = False
    shortcuts: bool = False
    baselines: bool = False
    contact_sheet: bool = False
    wanted_accuracy: float = 0.95
    workers: int | None = None


def evaluate(bundles: Sequence[Bundle], wanted: Wanted) -> dict[str, Any]:
    """Predict what is asked for and measure it.

    Raises:
        DataError: if there are no labels, no file of the split, or none can be read.
        ReelkindError: if a bundle lacks its graphs.
    """
    if len({bundle.name for bundle in bundles}) < len(bundles):
        raise DataError(f"bundles need different names, got {', '.join(bundle.name for bundle in bundles)}")
    if wanted.split == HELD_OUT:
        return _held_out_report(bundles, wanted.wanted_accuracy)
    if wanted.data is None:
        raise DataError(f"split {wanted.split} needs a folder of labelled files")
    with ExitStack() as stack:
        work = Evaluation(bundles, wanted, wanted.data, stack.enter_context(ProcessDecoder(wanted.workers)))
        return work.report()


def _held_out_report(bundles: Sequence[Bundle], wanted_accuracy: float) -> dict[str, Any]:
    """Numbers of the predictions that training left in the bundles' folders; no file is read again."""
    predictions = [load(bundle.path(HELD_OUT_NAME)) for bundle in bundles]
    return {
        "what": f"{len(predictions[0])} clips of {len(set(predictions[0].groups))} works of training and validation, "
        "each predicted by a model that never saw its work (cross-validation, and validation as one more fold). "
        + INTERVALS,
        "split": HELD_OUT,
        "members": {each.member: member_summary(each, wanted_accuracy=wanted_accuracy) for each in predictions},
        **_between(predictions, wanted_accuracy),
        "problems": {},
    }


def _between(predictions: Sequence[Predictions], wanted_accuracy: float) -> dict[str, Any]:
    """Several members compared and mixed; weights are fitted on the same clips, and judged by cross-fitting."""
    if len(predictions) < 2:
        return {}
    return {
        "comparisons": pairwise(predictions),
        "ensemble": ensemble_summary([each.view(0) for each in predictions], wanted_accuracy=wanted_accuracy),
    }


class Evaluation:
    """The parts of one report, from files that are decoded by ``decoder``."""

    def __init__(self, bundles: Sequence[Bundle], wanted: Wanted, data: Path, decoder: ProcessDecoder) -> None:
        self.wanted, self.data, self.decoder = wanted, data, decoder
        self.samples = _samples(data, wanted.sources, wanted.readings)
        self.groups = dict(zip((each.path for each in self.samples), origin_groups(self.samples), strict=True))
        cache = wanted.cache / "predictions"
        self.members = [Member(bundle.path(), decoder, cache, wanted.tta) for bundle in bundles]
        self.problems: dict[str, str] = {}
        self.warnings: list[str] = []

    def report(self) -> dict[str, Any]:
        """Everything that was asked for, for JSON."""
        wanted, chosen = self.wanted, self._of_split(self.wanted.split)
        predictions = [self._predict(member, chosen, wanted.split) for member in self.members]
        for each in predictions:
            save(each, wanted.out / f"predictions_{each.member}.npz")
        report: dict[str, Any] = {
            "what": self._what(predictions),
            "split": wanted.split,
            "members": {each.member: self._summary(each) for each in predictions},
        }
        if len(predictions) > 1:
            report["comparisons"] = pairwise(predictions)
            report["ensemble"] = self._ensemble(predictions)
            if wanted.tta:
                report["ensemble"]["tta"] = tta_summary(predictions)
        if wanted.baselines:
            report["baselines"] = self._baselines(predictions[0])
        if wanted.shortcuts:
            report["shortcuts"] = self._shortcuts(predictions, chosen)
        if wanted.contact_sheet:
            self._contact_sheet(report, chosen)
        return {**report, "warnings": sorted(set(self.warnings)), "problems": self.problems}

    def _predict(self, member: Member, samples: Sequence[Sample], what: str) -> Predictions:
        if seen := seen_by(member.bundle, samples):
            warning = (
                f"{member.bundle.name} was trained on {len(seen)} of these {len(samples)} files: it looks too good"
            )
            print(f"reelkind: {warning}", file=sys.stderr)
            self.warnings.append(warning)
        files = {self._name(each): each.path for each in samples}
        return self._predictions(member, samples, self._answers(member, files, what))

    def _predictions(self, member: Member, samples: Sequence[Sample], found: Mapping[str, MemberAnswer]) -> Predictions:
        known = [each for each in samples if self._name(each) in found]
        if not known:
            raise DataError(f"{member.bundle.name} could read none of {len(samples)} files")
        return Predictions(
            member=member.bundle.name,
            names=[self._name(each) for each in known],
            logits=np.stack([found[self._name(each)].logits for each in known]),
            labels=np.array([each.label for each in known]),
            groups=[self.groups[each.path] for each in known],
            subcategories=[each.subcategory for each in known],
            temperature=member.bundle.temperature,
        )

    def _answers(self, member: Member, files: Mapping[str, Path], what: str, copy: str = "") -> dict[str, MemberAnswer]:
        """Answers by name; ``copy`` says which damaged copy the files are."""
        print(f"reelkind: {member.bundle.name} on {len(files)} files, {what}", file=sys.stderr)
        with _progress(len(files)) as bar:
            found, problems = answers(member, files, self.decoder.num_workers, bar.update)
        self.problems |= {f"{name}, {copy}" if copy else name: problem for name, problem in problems.items()}
        return found

    def _summary(self, predictions: Predictions) -> dict[str, Any]:
        bundle = next(each.bundle for each in self.members if each.bundle.name == predictions.member)
        wanted, below = self._threshold(bundle.metrics.get(ABSTAIN))
        return member_summary(predictions, wanted_accuracy=wanted, abstain_below=below)

    def _ensemble(self, predictions: Sequence[Predictions]) -> dict[str, Any]:
        wanted, below = self._threshold(joint([member.bundle for member in self.members]))
        val = [each for each in self.samples if each.split == "val"]
        fitted_on = None
        if self.wanted.split != "val" and val:
            fitted_on = [self._predict(member, val, "val, for the weights").view(0) for member in self.members]
        single = [each.view(0) for each in predictions]
        return ensemble_summary(single, fitted_on=fitted_on, wanted_accuracy=wanted, abstain_below=below)

    def _threshold(self, chosen: Mapping[str, Any] | None) -> tuple[float, float | None]:
        """Accuracy wanted of the answers kept, and for the last measurement the confidence chosen on validation."""
        if self.wanted.split != "test" or chosen is None:
            return self.wanted.wanted_accuracy, None
        return chosen["wanted_accuracy"], chosen["abstain_below"]

    def _baselines(self, predictions: Predictions) -> dict[str, Any]:
        member, held_out = self.members[0], set(predictions.groups)
        train = [
            each
            for each in self._of_split("train")
            if not each.near_val and not each.is_still and self.groups[each.path] not in held_out
        ]
        found = self._answers(member, {self._name(each): each.path for each in train}, "train, for baselines")
        seen = [each for each in train if self._name(each) in found]
        if not seen:
            raise DataError("no training clips for the baselines: leave --baselines out")
        files = {self._name(each): each.path for each in self._of_split(self.wanted.split)}
        tested = self._answers(member, {name: files[name] for name in predictions.names}, "for baselines")
        scores = baseline_scores(
            np.stack([found[self._name(each)].features for each in seen]),
            np.array([each.label for each in seen]),
            np.stack([tested[name].features for name in predictions.names]),
        )
        return {"member": member.bundle.name, "num_train": len(seen), "rows": baseline_rows(scores, predictions)}

    def _shortcuts(self, predictions: Sequence[Predictions], samples: Sequence[Sample]) -> dict[str, Any]:
        read = set.union(*(set(each.names) for each in predictions))
        known = {self._name(each): each.path for each in samples if self._name(each) in read}
        print(f"reelkind: {len(known)} files damaged in {len(DAMAGES)} ways", file=sys.stderr)
        copies = []
        with _progress(len(known)) as bar:
            for copy in make_copies(known, self.wanted.cache / "damaged", self.decoder.num_workers):
                copies.append(copy)
                bar.update()
                if copy.problem:
                    self.problems[f"{copy.name}, damaged"] = copy.problem
                    print(f"reelkind: {copy.name}: {copy.problem}", file=sys.stderr)
        found = {}
        cache = self.wanted.cache / "predictions"
        for each, before in zip(self.members, predictions, strict=True):
            member = Member(each.bundle.path(), self.decoder, cache, tta=False)  # one view is what is compared
            after = {}
            for damage in DAMAGES:
                files = {copy.name: copy.paths[damage.name] for copy in copies if damage.name in copy.paths}
                if seen := self._answers(member, files, damage.name, damage.name):
                    after[damage.name] = self._predictions(member, samples, seen).view(0)
            found[before.member] = shortcut_summary(before.view(0), after)
        return found

    def _contact_sheet(self, report: Mapping[str, Any], samples: Sequence[Sample]) -> None:
        files = {self._name(each): each.path for each in samples}
        pictures = []
        for name, member in report["members"].items():
            for wrong in member["wrong"]:
                path = files[wrong["name"]]
                clip = self.decoder.decode(path, num_frames=1, size_px=_PICTURE_PX).clip
                text = f"{path.stem}\n{name}: {wrong['true']} as {wrong['said']} {wrong['confidence']:.2f}"
                pictures.append((clip.frames[0], text))
        if pictures:
            contact_sheet(pictures, self.wanted.out / CONTACT_SHEET_NAME)

    def _of_split(self, split: str) -> list[Sample]:
        found = [each for each in self.samples if each.split == split]
        if not found:
            there = ", ".join(sorted({each.split for each in self.samples}))
            raise DataError(
                f"no {split} samples in {self.data} (there: {there}); `reelkind dataset split` makes splits"
            )
        return found

    def _name(self, sample: Sample) -> str:
        return os.path.relpath(sample.path, self.data)

    def _what(self, predictions: Sequence[Predictions]) -> str:
        first = predictions[0]
        counts = ", ".join(f"{(first.labels == i).sum()} {name}" for i, name in enumerate(CLASSES))
        return (
            f"{len(first)} files of {len(set(first.groups))} works of the split {self.wanted.split} ({counts}), "
            "through the served graphs on ONNX Runtime in FP32. " + INTERVALS
        )


def _progress(num_files: int) -> tqdm[Any]:
    return tqdm(total=num_files, unit="video", delay=1.0, leave=False, dynamic_ncols=True, disable=None)


def _samples(data: Path, sources: Sequence[str] | None, readings: str) -> list[Sample]:
    """Labelled files of the named folders, or of every folder with a manifest.

    Raises:
        DataError: if there is no folder or no manifest.
    """
    if not data.is_dir():
        raise DataError(f"no folder {data} (--data)")
    if sources is None:
        places = [data, *sorted(path for path in data.iterdir() if path.is_dir())]
        sources = [path.relative_to(data).as_posix() for path in places if (path / MANIFEST_NAME).is_file()]
    if not sources:
        raise DataError(
            f"no labels in {data}: neither it nor its folders hold {MANIFEST_NAME}; "
            f"`reelkind dataset manifest {data}` makes one of folders named after the classes"
        )
    return read_samples(data, sources, readings=readings)
