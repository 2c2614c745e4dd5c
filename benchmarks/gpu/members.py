"""Members for a measurement: copies of bundles with all their graphs, and members of random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from reelkind.core import bundle as bundles_on_disk
from reelkind.core.bundle import Bundle
from reelkind.export.onnx_files import export_bundle, export_half
from reelkind.export.untrained import write_untrained_bundle


def complete(bundle: Bundle, work: Path) -> Bundle:
    """A copy of a bundle with its FP16 graphs; the bundle itself stays as it is."""
    folder = work / "bundles" / bundle.name
    shutil.copytree(bundle.path(), folder, dirs_exist_ok=True)
    copy = bundles_on_disk.load(folder)
    export_half(copy)
    return copy


def random_member(backbone: str, work: Path) -> Bundle:
    """A member of random weights, which is made once."""
    name = f"random_{backbone}"
    folder = work / "bundles" / name
    if not (folder / "onnx" / "fp16" / "head.onnx").is_file():
        bundle = write_untrained_bundle(name, backbone, folder)
        export_bundle(bundle)
        export_half(bundle)
    return bundles_on_disk.load(folder)
