"""Tables that the code and its specifications determine."""

from __future__ import annotations

from pathlib import Path

from reelkind.core import bundle, ensembles, specs, tensors
from reelkind.core.taxonomy import classes as taxonomy
from reelkind.core.tensors import TensorSpec

ROOT = Path(__file__).parents[1]


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Rows of cells in Markdown."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def classes() -> str:
    """The four classes with what counts and their subcategories."""
    rows = []
    for name in taxonomy.CLASSES:
        finer = [sub.name for sub in taxonomy.subcategories() if sub.class_name == name]
        rows.append((f"**{name}**", taxonomy.DESCRIPTIONS[name], f"{len(finer)}: {', '.join(finer)}"))
    return table(("class", "what counts", "subcategories"), rows)


_MEANING = {
    "frames": "RGB, 0 .. 255, any height and width; T frames in order of time",
    "features_<member>": "what a backbone saw in each frame of each view, to be classified now or later",
    "probabilities": f"calibrated, in the order {', '.join(taxonomy.CLASSES)}",
    "attention": "how much each frame counted; sums to 1",
    "frame_probabilities": "what each frame shows, seen among the others; calibrated, sums to 1 over the classes",
    "subcategories": "of the 46 in the order of taxonomy.csv; those of a class sum to its probability. Where told",
    "embedding": "pooled vector of the clip, for search and clustering",
}


def contract() -> str:
    """Tensors of the served ensemble."""
    ensemble = ensembles.classify_ensemble([bundle.load(ROOT / "bundles" / "clip")])
    rows = [_tensor_row(spec, "in") for spec in ensemble.inputs] + [
        _tensor_row(spec, "out") for spec in ensemble.outputs
    ]
    return table(("", "tensor", "type", "shape", "meaning"), rows)


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
    rows += [_tensor_row(tensors.FRAME_PROBABILITIES), _tensor_row(tensors.SUBCATEGORIES)]
    return table(("tensor", "type", "shape", "meaning"), rows)


def models() -> str:
    """Names of the models that a client asks, with what they take and give."""
    answer = "`probabilities`, `attention`, `embedding`, `frame_probabilities`"
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
    return table(("default member", "of x", "augmentation", "takes", "gives"), rows)


def limits() -> str:
    """What a request may be, and how long it may wait."""
    return table(
        ("limit", "value", "beyond it"),
        [
            ("videos a request, B", str(specs.MAX_BATCH), "INVALID_ARGUMENT"),
            ("frames a video, T", str(specs.MAX_FRAMES), "INVALID_ARGUMENT"),
            (
                "requests waiting for a backbone",
                f"{specs.MAX_QUEUE_SIZE} on a CPU, or `--max-queue`",
                "UNAVAILABLE: exceeds maximum queue size",
            ),
            (
                "seconds a request may wait for a backbone",
                f"{specs.QUEUE_TIMEOUT_US // 10**6}, where there is such a limit",
                "UNAVAILABLE: request timeout expired",
            ),
        ],
    )
