"""What the nearest neighbour of a video has in common with it, by its embedding and by its features' mean.

    python -m reelkind.benchmarks.neighbours --data DATA [--sources clips clips_more recorded] [--bundle bundles/lite]

Every validation clip is asked for its nearest neighbour by cosine among the clips of other works: among all of them,
most of which the members were trained on, and among the validation clips alone. Counted is how often the two share
their class, and their subcategory as the data set words it. Intervals are bootstraps over the works of the asked clips.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reelkind.benchmarks import environment
from reelkind.client import Client
from reelkind.core import specs
from reelkind.datasets.grouping import work_groups
from reelkind.datasets.sample import Sample
from reelkind.datasets.samples import read_samples
from reelkind.deployment.embedded import embedded_server

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MODELS = (specs.classify_name(), specs.features_name(), specs.classify_features_name())
NUM_BOOTSTRAPS = 2000


def read_vectors(samples: Sequence[Sample], client: Client) -> dict[str, np.ndarray]:
    """Kind of vector -> float32 [N, E], or [N, D of all members]."""
    embeddings, means = [], []
    for number, sample in enumerate(samples, 1):
        print(f"\r{number} / {len(samples)} clips", end="", file=sys.stderr)
        features = client.extract_features(sample.path)
        embeddings.append(client.classify_features(features).embedding)
        means.append(np.concatenate([array[0].mean(axis=0) for array in features.arrays.values()]))
    print(file=sys.stderr)
    return {"embedding": np.stack(embeddings), "mean of the features": np.stack(means)}


def nearest(vectors: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Index of each row's nearest other row by cosine, after the mean row is taken off.

    Args:
        vectors: float [N, E].
        allowed: bool [N, N], which rows may be whose neighbours.
    """
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    neighbours: np.ndarray = np.where(allowed, centred @ centred.T, -np.inf).argmax(axis=1)
    return neighbours


def share(agrees: np.ndarray, works: np.ndarray) -> dict[str, object]:
    """How often, with an interval over whole works.

    Args:
        agrees: bool [N].
        works: [N].
    """
    hits = [agrees[works == work] for work in np.unique(works)]
    random = np.random.default_rng(0)
    drawn = (random.integers(len(hits), size=len(hits)) for _ in range(NUM_BOOTSTRAPS))
    found = [np.concatenate([hits[i] for i in draw]).mean() for draw in drawn]
    low, high = np.quantile(found, (0.025, 0.975))
    return {"share": round(float(agrees.mean()), 3), "interval_95": [round(float(low), 3), round(float(high), 3)]}


def measure(samples: Sequence[Sample], vectors: dict[str, np.ndarray]) -> dict[str, object]:
    """Gallery -> kind of vector -> what neighbours share."""
    works, is_val = np.array(work_groups(samples)), np.array([sample.split == "val" for sample in samples])
    labels = {"class": [sample.label for sample in samples], "subcategory": [sample.subcategory for sample in samples]}
    same = {name: np.equal.outer(np.array(values), np.array(values)) for name, values in labels.items()}
    others = np.not_equal.outer(works, works)
    report: dict[str, object] = {}
    for gallery, allowed in {"all clips": others, "validation clips": others & is_val}.items():
        asked = allowed & is_val[:, None]
        found: dict[str, object] = {
            "num_clips": int(asked.any(axis=0).sum()),
            "by_chance": {name: round(float(shared[asked].mean()), 3) for name, shared in same.items()},
        }
        for kind, each in vectors.items():
            pairs = is_val.nonzero()[0], nearest(each, allowed)[is_val]
            found[kind] = {name: share(shared[pairs], works[is_val]) for name, shared in same.items()}
        report[gallery] = found
    return {"num_asked": int(is_val.sum()), "num_works": len(np.unique(works[is_val])), "among": report}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON artefact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled clips, as for `reelkind evaluate`")
    parser.add_argument("--sources", nargs="+", default=["clips"], help="folders of --data (default: clips)")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "lite", help="default: bundles/lite")
    parser.add_argument("--json", type=Path, default=RESULTS / "neighbours.json")
    args = parser.parse_args(argv)

    samples = read_samples(args.data, args.sources)
    machine = environment.describe()
    with embedded_server([args.bundle], ensembles=MODELS) as server, Client(server.url) as client:
        vectors, model = read_vectors(samples, client), client.server_info().model
    report = {
        "what": "how often a validation clip and its nearest neighbour of another work are of the same kind",
        "members": model.members,
        "weights_sha256": model.weights,
        "sources": args.sources,
        **measure(samples, vectors),
        "machine": machine,
    }
    args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report["among"], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
