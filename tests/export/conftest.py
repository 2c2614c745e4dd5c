import shutil
from pathlib import Path

import pytest

from reelkind.core import bundle as bundles_on_disk
from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, MANIFEST_NAME, Bundle
from reelkind.export.onnx_files import export_bundle


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shipped(root: Path) -> Bundle:
    """The bundle that is checked in, with the graphs that are checked in."""
    return bundles_on_disk.load(root / "bundles" / "lite")


@pytest.fixture(scope="session")
def lite(shipped: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same weights with graphs exported just now; read only."""
    folder = tmp_path_factory.mktemp("bundles") / "lite"
    folder.mkdir()
    for name in (MANIFEST_NAME, BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME):
        shutil.copyfile(shipped.path(name), folder / name)
    bundle = bundles_on_disk.load(folder)
    export_bundle(bundle)
    return bundle
