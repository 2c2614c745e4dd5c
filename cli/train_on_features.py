"""``reelkind train`` for a configuration of kind ``yt8m_features``: shards to a head, and what it measured."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reelkind.core.errors import ConfigError
from reelkind.training.features_only import track
from reelkind.training.features_only.track_config import load_features_config

from .output.talk import EXIT_OK


def run(args: argparse.Namespace) -> int:
    """Train on the shards in ``args.data``; results go to stdout, progress to stderr.

    Raises:
        ConfigError: if the configuration does not fit, or the folder holds a result that may not be replaced.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("the head trains on features in one process: start it without torchrun")
    config = load_features_config(args.config, args.overrides)
    out = args.out or Path("runs") / config.name
    if (out / track.DESCRIPTION_NAME).exists() and not args.overwrite:
        raise ConfigError(f"{out} holds a trained head already: choose another --out, or --overwrite it")
    description = track.run(config, args.data, out)
    print(json.dumps(description, indent=2, ensure_ascii=False) if args.json else _summary(description, out))
    return EXIT_OK


def _summary(description: Mapping[str, Any], out: Path) -> str:
    lines = [f"{'head':<12} {out}", f"{'':<12} {description['label']}"]
    for split, metrics in description["metrics"].items():
        measured = ", ".join(
            f"{name.replace('_', ' ')} {metrics[name]:.3f} (95 %: {low:.3f} .. {high:.3f})"
            for name, (low, high) in metrics["interval_95"].items()
        )
        lines.append(f"{split:<12} {metrics['num_videos']} videos: {measured}")
    return "\n".join(lines)
