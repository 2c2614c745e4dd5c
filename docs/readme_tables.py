"""Fills the generated tables of README.md from the code, the shipped bundle and the measured results.

python docs/readme_tables.py            rewrite README.md
python docs/readme_tables.py --check    exit 1 if it is not current
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reelkind.core import bundle, specs, taxonomy
from reelkind.core.tensors import TensorSpec

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
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


def contract() -> str:
    """Tensors of the served ensemble."""
    ensemble = specs.classify_ensemble([bundle.load(ROOT / "bundles" / "lite")])
    meaning = {
        "frames": "RGB, 0 .. 255, any height and width; T frames in order of time",
        "probabilities": f"calibrated, in the order {', '.join(taxonomy.CLASSES)}",
        "attention": "how much each frame counted; sums to 1",
        "embedding": "pooled vector of the clip, for search and clustering",
    }

    def row(direction: str, spec: TensorSpec) -> tuple[str, ...]:
        return (direction, f"`{spec.name}`", spec.wire_type, f"[{', '.join(map(str, spec.shape))}]", meaning[spec.name])

    rows = [row("in", spec) for spec in ensemble.inputs] + [row("out", spec) for spec in ensemble.outputs]
    return _table(("", "tensor", "type", "shape", "meaning"), rows)


def performance() -> str:
    """Serving overhead as last measured."""
    report = json.loads((ROOT / "benchmarks" / "results" / "serving_overhead_cpu.json").read_text(encoding="utf-8"))
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


SECTIONS: dict[str, Callable[[], str]] = {
    "results": results,
    "classes": classes,
    "contract": contract,
    "performance": performance,
}


def render(text: str) -> str:
    """README text with every generated section made anew.

    Raises:
        ValueError: if a section's markers are missing.
    """
    for name, make in SECTIONS.items():
        begin, end = f"<!-- {name}: generated by docs/readme_tables.py -->", f"<!-- end {name} -->"
        text, count = re.subn(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, b=begin, e=end, m=make: f"{b}\n{m()}\n{e}",
            text,
            flags=re.S,
        )
        if count != 1:
            raise ValueError(f"README.md needs the section {begin} ... {end} exactly once, found {count}")
    return text


def main() -> int:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    before = README.read_text(encoding="utf-8")
    after = render(before)
    if args.check and after != before:
        sys.stderr.write("README.md is not current: run `python docs/readme_tables.py`\n")
        return 1
    if not args.check:
        README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
