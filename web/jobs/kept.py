"""Features of whole videos at a fixed rate, kept so that a timeline with other options need not decode again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from reelkind.client import Client, Features
from reelkind.core.features import Recipe
from reelkind.core.files import features_files

FOLDER = "streams"


def stream_path(features: Path, sha256: str, recipe: Recipe) -> Path:
    """Where the features of a video, made in this way, are kept."""
    made_so = hashlib.sha256(json.dumps(recipe.describe(), sort_keys=True).encode()).hexdigest()[:32]
    return features / FOLDER / sha256[:2] / f"{sha256}-{made_so}{features_files.SUFFIX}"


def keep_stream(features: Features, path: Path) -> None:
    """Write them down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features_files.save(features, path)


def find_stream(folder: Path, sha256: str, client: Client, rate: float, member: str | None, tta: str) -> Path | None:
    """A features file of this video as the server would make it now, or None."""
    path = stream_path(folder, sha256, client.features_recipe(rate=rate, member=member, tta=tta))
    if not path.is_file():
        return None
    os.utime(path)  # what is used is kept longer
    return path
