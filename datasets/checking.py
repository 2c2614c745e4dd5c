"""Samples and what was seen of their files to findings: what is unusable, twice there, leaking or labelled wrongly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from reelkind.core.taxonomy.classes import CLASSES

from .exclusions import Finding, Reason
from .fingerprints import near_duplicates
from .grouping import work_groups
from .inspection import Inspection
from .sample import Sample
from .samples import SPLITS

MIN_DURATION_S = 1.0


def find_all(
    samples: Sequence[Sample], seen: Mapping[Path, Inspection], *, min_duration_s: float = MIN_DURATION_S
) -> list[Finding]:
    """Every finding, gravest reasons first.

    Args:
        samples: rows of one or several manifests; pairs are looked for across all of them.
        seen: an inspection for every sample's path; labels are judged where it has features.
        min_duration_s: shorter videos are found; stills are exempt.
    """
    findings = list(_unusable(samples, seen, min_duration_s))
    findings += _duplicates(samples, seen)
    settled = {finding.path for finding in findings}
    rest = [sample for sample in samples if sample.path not in settled]
    findings += _near_duplicates(rest, seen)
    findings += _mislabelled(rest, seen)
    order = list(Reason)
    return sorted(findings, key=lambda finding: order.index(finding.reason))


def _unusable(samples: Sequence[Sample], seen: Mapping[Path, Inspection], min_duration_s: float) -> Iterator[Finding]:
    for sample in samples:
        inspection = seen[sample.path]
        if inspection.missing:
            yield Finding(sample.path, Reason.MISSING, inspection.problem)
        elif inspection.problem:
            yield Finding(sample.path, Reason.UNREADABLE, inspection.problem)
        elif sample.sha256 and sample.sha256 != inspection.sha256:
            detail = f"the manifest says {sample.sha256[:12]}…, the file is {inspection.sha256[:12]}…"
            yield Finding(sample.path, Reason.HASH_MISMATCH, detail)
        elif not sample.is_still and inspection.duration_s < min_duration_s:
            yield Finding(sample.path, Reason.TOO_SHORT, f"{inspection.duration_s:.2f} s, less than {min_duration_s:g}")


def _duplicates(samples: Sequence[Sample], seen: Mapping[Path, Inspection]) -> Iterator[Finding]:
    """Of several identical files all but one; all of them if their classes differ, for none can be trusted then."""
    copies: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if not seen[sample.path].problem:
            copies[seen[sample.path].sha256].append(sample)
    for same in copies.values():
        kept = max(same, key=_worth)  # the first of those worth most
        contested = len({sample.label for sample in same}) > 1
        for sample in same:
            other = kept if sample is not kept else same[0] if same[0] is not kept else same[-1]
            if sample is not other and (contested or sample is not kept):
                detail = f"the same file; {_relation(sample, other)}"
                yield Finding(sample.path, Reason.DUPLICATE, detail, other.path)


def _near_duplicates(samples: Sequence[Sample], seen: Mapping[Path, Inspection]) -> Iterator[Finding]:
    """Leaks, one a file that training must lose; and of alike files in one split the links that join them."""
    samples = [sample for sample in samples if not seen[sample.path].problem]
    leaking: set[int] = set()
    parent = list(range(len(samples)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for pair in near_duplicates([seen[sample.path].fingerprint for sample in samples]):
        lesser, greater = sorted((pair.second, pair.first), key=lambda i: _worth(samples[i]))
        one, other = samples[lesser], samples[greater]
        detail = f"{pair.likeness:.0%} alike; {_relation(one, other)}"
        if _leaks(one, other):
            if lesser not in leaking:
                leaking.add(lesser)
                yield Finding(one.path, Reason.LEAK, detail, other.path)
        elif root(pair.first) != root(pair.second):
            parent[root(pair.second)] = root(pair.first)
            yield Finding(one.path, Reason.NEAR_DUPLICATE, detail, other.path)


def _worth(sample: Sample) -> int:
    """Which of two copies stays: held-out data are what everything is measured on."""
    return SPLITS.index(sample.split)


def _leaks(one: Sample, other: Sample) -> bool:
    """Whether training or tuning on one file would spoil what the other measures."""
    left_out = {one.split, other.split} == {"train", "val"} and (one.near_val or other.near_val)
    return one.split != other.split and not left_out


def _relation(one: Sample, other: Sample) -> str:
    classes = "same class" if one.label == other.label else f"{CLASSES[one.label]} and {CLASSES[other.label]}"
    works = "same work" if len(set(work_groups([one, other]))) == 1 else "other work"
    splits = "same split" if one.split == other.split else f"{one.split} and {other.split}"
    known = ", near_val" if one.near_val or other.near_val else ""
    return f"{classes}, {works}, {splits}{known}"


def _mislabelled(samples: Sequence[Sample], seen: Mapping[Path, Inspection]) -> Iterator[Finding]:
    samples = [sample for sample in samples if len(seen[sample.path].features)]
    if not samples:
        return
    from .labels import judgeable, out_of_fold_probabilities, suspects  # scikit-learn takes a second to load

    labels, groups = np.array([sample.label for sample in samples]), work_groups(samples)
    chosen = judgeable(labels, groups)
    if not len(chosen):
        return
    features = np.stack([seen[samples[i].path].features for i in chosen])
    labels, groups = labels[chosen], [groups[i] for i in chosen]
    for suspect in suspects(out_of_fold_probabilities(features, labels, groups), labels):
        sample = samples[chosen[suspect.index]]
        looks = CLASSES[suspect.suggested]
        detail = (
            f"labelled {CLASSES[sample.label]} ({suspect.given_probability:.0%}), "
            f"looks like {looks} ({suspect.suggested_probability:.0%})"
        )
        yield Finding(sample.path, Reason.MISLABELLED, detail, looks)
