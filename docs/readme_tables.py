"""Fills the generated tables of README.md and pages of docs/ from the code, the bundles and measured results.

python docs/readme_tables.py            rewrite them
python docs/readme_tables.py --check    exit 1 if one is not current
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reelkind.core import bundle, ensembles, specs, taxonomy, tensors
from reelkind.core.tensors import TensorSpec

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RAW_CONTRACT, AUGMENTATION = ROOT / "docs" / "raw_contract.md", ROOT / "docs" / "tta.md"
FEATURES = ROOT / "docs" / "features.md"
MEASURED = ROOT / "benchmarks" / "results"
MEMBERS = ("lite", "lite2")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def classes() -> str:
    """The four classes with what counts and their subcategories."""
    rows = []
    for name in taxonomy.CLASSES:
        finer = [sub.name for sub in taxonomy.subcategories() if sub.class_name == name]
        rows.append((f"**{name}**", taxonomy.DESCRIPTIONS[name], f"{len(finer)}: {', '.join(finer)}"))
    return _table(("class", "what counts", "subcategories"), rows)


_MEANING = {
    "frames": "RGB, 0 .. 255, any height and width; T frames in order of time",
    "features_<member>": "what a backbone saw in each frame of each view, to be classified now or later",
    "probabilities": f"calibrated, in the order {', '.join(taxonomy.CLASSES)}",
    "attention": "how much each frame counted; sums to 1",
    "embedding": "pooled vector of the clip, for search and clustering",
}


def contract() -> str:
    """Tensors of the served ensemble."""
    ensemble = ensembles.classify_ensemble([bundle.load(ROOT / "bundles" / "lite")])
    rows = [_tensor_row(spec, "in") for spec in ensemble.inputs] + [
        _tensor_row(spec, "out") for spec in ensemble.outputs
    ]
    return _table(("", "tensor", "type", "shape", "meaning"), rows)


def _tensor_row(spec: TensorSpec, *first: str) -> tuple[str, ...]:
    shape = f"[{', '.join(map(str, spec.shape))}]"
    return (*first, f"`{spec.name}`", spec.wire_type, shape, _MEANING[spec.name])


def all_tensors() -> str:
    """Every tensor that a client sends or receives."""
    specs_of = (
        tensors.FRAMES,
        tensors.ANY_FEATURES.named("features_<member>"),
        tensors.PROBABILITIES,
        tensors.ATTENTION,
    )
    rows = [_tensor_row(spec) for spec in specs_of]
    rows.append(("`embedding`", "FP32", "[B, E]", _MEANING["embedding"]))
    return _table(("tensor", "type", "shape", "meaning"), rows)


def models() -> str:
    """Names of the models that a client asks, with what they take and give."""
    answer = "`probabilities`, `attention`, `embedding`"
    rows = []
    for what, name, takes, gives in (
        ("classify", specs.classify_name, "`frames`", answer),
        ("features", specs.features_name, "`frames`", "`features_<member>` of each member"),
        ("classify_features", specs.classify_features_name, "`features_<member>` of each member", answer),
    ):
        for tta in specs.TTA:
            if what == "features" and tta == "fast":
                continue  # as off: temporal views are made of features
            rows.append((f"`{name(None, tta)}`", f"`{name('<x>', tta)}`", tta, takes, gives))
    return _table(("default member", "of x", "augmentation", "takes", "gives"), rows)


def limits() -> str:
    """What a request may be, and how long it may wait."""
    return _table(
        ("limit", "value", "beyond it"),
        [
            ("videos a request, B", str(specs.MAX_BATCH), "INVALID_ARGUMENT"),
            ("frames a video, T", str(specs.MAX_FRAMES), "INVALID_ARGUMENT"),
            ("requests waiting at one model", str(specs.MAX_QUEUE_SIZE), "UNAVAILABLE: exceeds maximum queue size"),
            (
                "seconds a request may wait",
                str(specs.QUEUE_TIMEOUT_US // 10**6),
                "UNAVAILABLE: request timeout expired",
            ),
        ],
    )


def performance() -> str:
    """Serving overhead as last measured."""
    report = _measured("serving_overhead_cpu")
    rates, machine = report["clips_per_second"], report["machine"]

    def compared(key: str) -> str:
        found = report[key]
        return f"**{found['median']:.2f}** ({found['low']:.2f} .. {found['high']:.2f})"

    rows = [
        ("Triton, gRPC and shared memory", f"{rates['triton']:.1f}", ""),
        (
            "one plain ONNX Runtime session a graph, in-process",
            f"{rates['sessions']:.1f}",
            compared("triton_to_sessions"),
        ),
        ("the same, executed as the server does", f"{rates['as served']:.1f}", compared("triton_to_as_served")),
    ]
    frames, size, *_ = report["clip"]
    is_current = report["weights_sha256"] == bundle.weights_hash(bundle.load(ROOT / "bundles" / "lite"))
    earlier = "" if is_current else ", with an earlier `lite`"
    return (
        _table(
            (
                f"clips of {frames} frames, {size}x{size}, concurrency {report['concurrency']}",
                "clips/s",
                "Triton / this, median (quartiles)",
            ),
            rows,
        )
        + f"\n\n{machine['processor']}, {machine['cores']} cores; ONNX Runtime; `make bench`{earlier}. "
        "GPU: not measured."
    )


def serving() -> str:
    """What features, timelines and company cost, as last measured."""
    features, borders = _measured("features_speed_cpu"), _measured("timeline_borders_cpu")
    overlap, company = _measured("timeline_overlap_cpu"), _measured("concurrency")
    alone, crowd = (company["shared memory"][callers] for callers in ("1", "8"))
    batches = crowd["models"][f"backbone_{company['bundle']}"]
    right, parts = borders["right_in_timeline_where_right_alone"], borders["right_alone"]
    memory, ratio = borders["resident_mb"], overlap["timeline_to_slower_half"]
    decoding, inference = (statistics.median(overlap["seconds"][f"{half} alone"]) for half in ("decoding", "inference"))
    rows = [
        (
            "a file classified again, from the cache of features",
            f"**{features['from_cache']['median']:.0f} times** as fast as the first time "
            f"(least of {len(features['files'])} files: {features['from_cache']['least']:.1f})",
        ),
        (
            f"timeline of {borders['minutes']:.0f} minutes, {len(borders['parts'])} known segments",
            f"{right} of the {parts} segments right that are right as single clips; borders off by at most "
            f"{max(borders['border_errors_s']):.0f} s; {borders['wall_s']:.0f} s; the client's memory "
            f"{memory['first']:.0f} MB at first, then {memory['least']:.0f} .. {memory['most']:.0f} MB",
        ),
        (
            f"timeline of {overlap['minutes']:.0f} minutes, decoder and server on a core each",
            f"**{ratio['median']:.2f}** of the slower of decoding alone ({decoding:.0f} s) and inference alone "
            f"({inference:.0f} s), {_rounds(ratio['rounds'])}",
        ),
        (
            "8 callers at once, against one",
            f"**{crowd['to_one_caller']['median']:.2f}** of its clips/s "
            f"({crowd['to_one_caller']['low']:.2f} .. {crowd['to_one_caller']['high']:.2f}; one: "
            f"{alone['clips_per_second']:.1f}); {batches['clips']} clips in {batches['executions']} executions",
        ),
    ]
    return _table((f"`{company['bundle']}` served on {company['machine']['cores']} cores", "measured"), rows)


def _rounds(ratios: list[float]) -> str:
    if len(ratios) == 1:
        return "one round"
    return f"median of {len(ratios)} rounds ({min(ratios):.2f} .. {max(ratios):.2f})"


def augmentation() -> str:
    """Gain and cost of test-time augmentation, as last measured."""
    from reelkind.benchmarks.tta import table

    report = _measured("tta")
    return table(report["gain"], report["cost"])


def neighbours() -> str:
    """What a video's nearest neighbour has in common with it."""
    found = _measured("neighbours")
    rows = []
    for name, gallery in found["among"].items():
        place = f"{name} ({gallery['num_clips']})"
        for kind in ("embedding", "mean of the features"):
            shares = [_share(gallery[kind][what]) for what in ("class", "subcategory")]
            rows.append((f"`{found['members'][0]}`, {kind}", place, *shares))
        chances = [f"{gallery['by_chance'][what]:.2f}" for what in ("class", "subcategory")]
        rows.append(("any clip", place, *chances))
    asked = f"{found['num_asked']} validation clips of {found['num_works']} works"
    return _table((asked, "nearest among", "same class (95 %)", "same subcategory (95 %)"), rows)


def _share(found: Mapping[str, Any]) -> str:
    low, high = found["interval_95"]
    return f"{found['share']:.2f} ({low:.2f} .. {high:.2f})"


def _measured(name: str) -> Any:
    return json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))


def results() -> str:
    """Accuracy of the shipped bundles, as training and `reelkind evaluate --record` measured it."""
    members = [bundle.load(ROOT / "bundles" / name) for name in MEMBERS]
    rows = []
    for member in members:
        for key, what in (("val", "validation"), ("held_out", "every clip, by models that never saw its work")):
            found = member.metrics[key]
            clips, works = str(found["num_clips"]), str(found["num_works"])
            rows.append((f"`{member.name}`", what, clips, works, *_with_intervals(found)))
    for split, what in (("val", "validation"), ("held-out", "every clip, by models that never saw its work")):
        found = members[0].metrics["evaluation"][split]["ensemble"]
        cells = _with_intervals(found["equal_weights"])
        rows.append(("both, averaged", what, str(found["num_clips"]), str(found["num_works"]), *cells))
    sizes = []
    for member in members:
        files = (bundle.BACKBONE_WEIGHTS_NAME, bundle.HEAD_WEIGHTS_NAME)
        size = sum(member.path(name).stat().st_size for name in files)
        sizes.append(
            f"`{member.name}`: {member.num_frames} frames of {member.backbone.frame_size_px} px a clip, "
            f"{size / 1e6:.1f} MB of FP16 weights"
        )
    table = _table(("", "measured on", "clips", "works", "accuracy (95 %)", "macro-F1 (95 %)"), rows)
    return f"{table}\n\n{'; '.join(sizes)}."


def _with_intervals(found: Mapping[str, Any]) -> list[str]:
    cells = []
    for metric in ("accuracy", "macro_f1"):
        low, high = found["interval_95"][metric]
        cells.append(f"{found[metric]:.3f} ({low:.2f} .. {high:.2f})")
    return cells


SECTIONS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {
        "results": results,
        "classes": classes,
        "contract": contract,
        "performance": performance,
        "serving": serving,
        "augmentation": augmentation,
    },
    RAW_CONTRACT: {"tensors": all_tensors, "models": models, "limits": limits},
    AUGMENTATION: {"augmentation": augmentation},
    FEATURES: {"neighbours": neighbours},
}


def render(text: str, page: Path = README) -> str:
    """A page's text with every generated section made anew.

    Raises:
        ValueError: if a section's markers are missing.
    """
    for name, make in SECTIONS[page].items():
        begin, end = f"<!-- {name}: generated by docs/readme_tables.py -->", f"<!-- end {name} -->"
        text, count = re.subn(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, b=begin, e=end, m=make: f"{b}\n{m()}\n{e}",
            text,
            flags=re.S,
        )
        if count != 1:
            raise ValueError(f"{page.name} needs the section {begin} ... {end} exactly once, found {count}")
    return text


def main() -> int:
    """Rewrite or check the pages."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    stale = []
    for page in SECTIONS:
        before = page.read_text(encoding="utf-8")
        after = render(before, page)
        if after != before and args.check:
            stale.append(page.name)
        elif after != before:
            page.write_text(after, encoding="utf-8")
    if stale:
        sys.stderr.write(f"{' and '.join(stale)} not current: run `python docs/readme_tables.py`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
