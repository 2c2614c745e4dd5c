"""Another version of a bundle for promotion: other weights by their hash, another temperature by its answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from reelkind.core import bundle as bundles
from reelkind.core.bundle import HEAD_WEIGHTS_NAME, ONNX_FOLDER, Bundle
from reelkind.core.files import checksums
from reelkind.export.repository.members import average_file


def write_new_version(bundle: Bundle, folder: Path, temperature: float) -> Bundle:
    """Write a bundle of the same name and sizes whose answers are flatter or sharper.

    The last byte of the head's weights differs by one bit, which its graph is told and does not follow.
    """
    assert bundle.folder is not None
    shutil.copytree(bundle.folder, folder)
    weights = bytearray((folder / HEAD_WEIGHTS_NAME).read_bytes())
    weights[-1] ^= 1
    (folder / HEAD_WEIGHTS_NAME).write_bytes(weights)
    made = bundles.save(replace(bundle, temperature=temperature), folder)
    before, after = (bundles.weights_hash(version).encode() for version in (bundle, made))
    for graph in (folder / ONNX_FOLDER).rglob("*.onnx"):
        graph.write_bytes(graph.read_bytes().replace(before, after))
    (folder / ONNX_FOLDER / "average.onnx").write_bytes(average_file([made]))
    for joint in (folder / ONNX_FOLDER).glob("average_*.onnx"):
        joint.unlink()
    for graph in (folder / ONNX_FOLDER).rglob("*.onnx"):
        checksums.record(graph)
    return made
