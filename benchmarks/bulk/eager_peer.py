"""The same job as one would write it with plain Ray Data and PyTorch eager.

    python -m reelkind.benchmarks.bulk.eager_peer VIDEOS --address ADDRESS --bundle DIR --out DIR [--frames N]

OpenCV reads each file, a module of PyTorch answers, what cannot be read has no label.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 4


class EagerClassifier:
    """Network and head in an actor.

    Args:
        bundle: its folder.
        num_frames: of each video; None for as many as the bundle was made for.
    """

    def __init__(self, bundle: str, num_frames: int | None) -> None:
        from reelkind.core.bundle import load
        from reelkind.export.graphs.checkpoint import load_modules

        self._bundle = load(bundle)
        self._num_frames = num_frames or self._bundle.num_frames
        self._backbone, self._head = load_modules(self._bundle)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """``path`` to ``path`` and ``label``."""
        return {"path": batch["path"], "label": [self._label(str(path)) for path in batch["path"]]}

    def _label(self, path: str) -> str | None:
        import torch

        from reelkind.benchmarks.peers.makers import UnavailableError, opencv_frames
        from reelkind.core.taxonomy.classes import CLASSES

        try:
            frames = opencv_frames(Path(path), self._num_frames, self._bundle.backbone.frame_size_px)
        except UnavailableError:
            return None
        with torch.inference_mode():
            pictures = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))  # [T, 3, S, S]
            logits = self._head(self._backbone(pictures)[None])
        found = logits[0] if isinstance(logits, tuple) else logits
        return CLASSES[int(found.flatten().argmax())]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a path a line")
    parser.add_argument("--address", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--frames", type=int)
    args = parser.parse_args(argv)
    import ray
    import ray.data

    ray.init(args.address, log_to_driver=False, logging_level="ERROR")
    paths = args.videos.read_text(encoding="utf-8").splitlines()
    num_actors = int(ray.cluster_resources()["CPU"])
    ray.data.from_items([{"path": path} for path in paths], override_num_blocks=8 * num_actors).map_batches(
        EagerClassifier,
        fn_constructor_args=(os.fspath(args.bundle), args.frames),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=1,
    ).write_parquet(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
