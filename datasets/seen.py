"""Which files a bundle was trained on, so that whoever measures it on them is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reelkind.core.bundle import Bundle
from reelkind.core.files.whole_files import write_whole

from .sample import Sample

SEEN_NAME = "seen.txt"
NUM_DIGITS = 16  # of each SHA-256: two files of a million agree in them once in thirty million cases


def write_seen(folder: Path, samples: Sequence[Sample]) -> None:
    """Keep the beginnings of the hashes of training's files beside the weights, a line each."""
    digests = sorted({sample.content_hash[:NUM_DIGITS] for sample in samples})
    write_whole(folder / SEEN_NAME, "\n".join(digests) + "\n")


def seen_by(bundle: Bundle, samples: Sequence[Sample]) -> list[Sample]:
    """Those of the samples that the bundle was trained on; none are known of a bundle that does not say.

    Files that cannot be read are none of them: whoever decodes them says so.
    """
    path = bundle.path(SEEN_NAME)
    digests = set(path.read_text(encoding="utf-8").split()) if path.is_file() else set[str]()
    return [sample for sample in samples if digests and _digest(sample) in digests]


def _digest(sample: Sample) -> str | None:
    try:
        return sample.content_hash[:NUM_DIGITS]
    except OSError:
        return None
