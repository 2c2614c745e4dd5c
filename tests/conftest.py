"""Fixtures of all tests: a place for temporary files, and the real tritonserver."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reelkind.core import bundle as bundles
from reelkind.core.bundle import ONNX_FOLDER, Bundle

if TYPE_CHECKING:
    from reelkind.serving.install.runtime import Runtime
    from reelkind.serving.server import TritonServer


@pytest.fixture(scope="session", autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all that is temporary goes, and of ours nothing stays."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder
    assert sorted(folder.glob("reelkind-*")) == []


@pytest.fixture(scope="session")
def triton_runtime() -> Runtime:
    """The tritonserver of this machine; made on the first use, which downloads about 100 MB."""
    from reelkind.serving.errors import ServingError
    from reelkind.serving.install.runtime import find_runtime

    try:
        return find_runtime()
    except ServingError as error:
        pytest.skip(f"no tritonserver: {error}")


@pytest.fixture(scope="session")
def served_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The fast packaged bundle, or one of random weights where its graphs have not been exported."""
    from reelkind.deployment.embedded import packaged_bundle

    folder = packaged_bundle("lite")
    if (folder / bundles.MANIFEST_NAME).is_file() and any(Path(folder, ONNX_FOLDER).glob("*.onnx")):
        return bundles.load(folder)
    pytest.importorskip("torch", reason="the packaged bundle has no graphs, and random ones need torch")
    from reelkind.export.onnx_files import export_bundle
    from reelkind.export.untrained import write_untrained_bundle

    bundle = write_untrained_bundle("lite", "mobilenet_v2", tmp_path_factory.mktemp("bundles") / "lite")
    export_bundle(bundle)
    return bundle


@pytest.fixture(scope="session")
def triton_server(triton_runtime: Runtime, served_bundle: Bundle) -> Iterator[TritonServer]:
    """A real server with ``classify`` and ``classify_tta`` on free loopback ports; leave it as you found it."""
    from reelkind.deployment.embedded import embedded_server

    assert served_bundle.folder is not None
    with embedded_server([served_bundle.folder]) as server:
        yield server


OPTIONAL = {
    *("PIL", "trustme", "torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "sklearn", "matplotlib"),
    *("google_crc32c", "ray", "pyarrow", "fsspec", "aiohttp", "flask", "sqlalchemy", "prometheus_client", "yaml"),
}
"""Of the extras: where one is not installed, the tests that need it are skipped, and the others collected."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file, or a folder by its conftest.py, that imports what is not installed is skipped with that reason."""
    report = yield
    missing = re.search(r"No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if missing and missing[1] in OPTIONAL:
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {missing[1]} is not installed")
    return report
