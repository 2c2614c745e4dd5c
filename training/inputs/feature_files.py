"""Features of a frozen backbone, one file a sample and variant, so that nothing is computed twice.

A folder belongs to one backbone and one way of making frames; a file's name is the hash of the sample's content.
Samples that come or go leave the others' files alone, and a killed run goes on with the next sample.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.core.files.whole_files import write_whole


@dataclass(frozen=True)
class FeatureFiles:
    """Features of one variant.

    Attributes:
        folder: where its files lie; its name stands for everything they depend on beside the samples.
    """

    folder: Path

    def path(self, content_hash: str) -> Path:
        """File of a sample, in one of 256 folders."""
        return self.folder / content_hash[:2] / f"{content_hash}.npy"

    def has(self, content_hash: str) -> bool:
        """Whether a sample's features are there."""
        return self.path(content_hash).is_file()

    def read(self, content_hash: str) -> np.ndarray:
        """Features float16 [frames of the sample, D]."""
        values: np.ndarray = np.load(self.path(content_hash), allow_pickle=False)
        return values

    def write(self, content_hash: str, values: np.ndarray) -> None:
        """Keep a sample's features, whole or not at all.

        Raises:
            OSError: if they cannot be written.
        """
        path = self.path(content_hash)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.save(buffer, values)
        write_whole(path, buffer.getvalue())
