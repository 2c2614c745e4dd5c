import shutil
from pathlib import Path

import pytest

from reelkind.core import bundle as bundles_on_disk
from reelkind.core.bundle import BACKBONE_WEIGHTS_NAME, HEAD_WEIGHTS_NAME, MANIFEST_NAME, Bundle

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("torch", reason="the extra `export` is not installed")

from reelkind.export.onnx_files import export_bundle, export_half


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


@pytest.fixture(scope="session")
def real_clips(root: Path) -> list[Path]:
    """A clip of each class, never trained on, of those kept beside the checkout."""
    folder = root.parent / "shared" / "data" / "clips" / "val"
    if not folder.is_dir():
        pytest.skip(f"no real clips in {folder}")
    return [clip for kind in sorted(folder.iterdir()) for clip in sorted(kind.glob("*.mp4"))[:1]]


@pytest.fixture(scope="session")
def with_half(shipped: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The checked-in bundle and its FP16 graphs, made just now; read only."""
    folder = tmp_path_factory.mktemp("half") / "lite"
    shutil.copytree(shipped.path(), folder, ignore=shutil.ignore_patterns("fp16"))
    bundle = bundles_on_disk.load(folder)
    export_half(bundle)
    return bundle
