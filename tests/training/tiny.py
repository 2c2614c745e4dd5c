"""The smallest data set and configuration that go through the whole of ``reelkind train``."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reelkind.core.taxonomy.classes import CLASSES, subcategories

COLOURS = {"animation": (220, 40, 40), "gaming": (40, 200, 40), "natural": (40, 60, 220), "flat": (240, 240, 240)}
SETTINGS = {
    "name": "tiny",
    "num_frames": 2,
    "num_threads": 1,
    "data": {"sources": ["clips", "stills"]},
    "backbone": {"weights": "", "frame_size_px": 64, "name": "mobilenet_v2_levels"},
    "augment": {"num_variants": 1, "frames_per_clip": 2, "clean_frames_per_clip": 2, "source_size_px": 80},
    "finetune": {"steps": 2, "batch_size": 4, "warmup_steps": 1},
    "head": {"width": 16, "num_layers": 1, "num_frames": 2, "steps": 3, "batch_size": 4, "warmup_steps": 1},
    "evaluation": {"num_folds": 2, "num_bootstraps": 20},
}


def write_data(root: Path) -> Path:
    """Two works a class as stills, two as clips (GIFs), one clip a class for validation; clips have subcategories."""
    rng = np.random.default_rng(0)
    for source, splits in (("clips", ("train", "train", "val")), ("stills", ("train", "train"))):
        rows = []
        for name in CLASSES:
            for i, split in enumerate(splits):
                suffix = "gif" if source == "clips" else "jpg"
                path = root / source / name / f"{i}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pictures = [
                    Image.fromarray((COLOURS[name] + rng.integers(-40, 15, (48, 64, 3))).clip(0, 255).astype(np.uint8))
                    for _ in range(3)
                ]
                pictures[0].save(path, **({"save_all": True, "append_images": pictures[1:]} if suffix == "gif" else {}))
                work = f"{source} {name} {split} {i}"
                finer = next(kind.name for kind in subcategories() if kind.class_name == name)
                row = {"path": f"{name}/{path.name}", "class": name, "work": work, "split": split}
                rows.append({**row, "subcategory": finer if source == "clips" else ""})
        with (root / source / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return root


def overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as ``--set`` flags."""
    flags: list[str] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            flags += overrides(value, f"{prefix}{key}.")
        else:
            flags += ["--set", f"{prefix}{key}={json.dumps(value)}"]
    return flags
