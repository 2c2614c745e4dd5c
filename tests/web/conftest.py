"""The application: in this process without workers, and as a whole with a real tritonserver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flask", reason="the extra `web` is not installed")
pytest.importorskip("sqlalchemy", reason="the extra `web` is not installed")

from flask import Flask
from flask.testing import FlaskClient

from reelkind.web.app import create_app
from reelkind.web.settings import Settings

from .served import Served, run_web

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
NOBODY = "127.0.0.1:9"  # no server listens there


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """Without a server and without workers: jobs wait."""
    return create_app(Settings(tmp_path / "data", NOBODY))


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A caller without a browser's session."""
    return app.test_client(use_cookies=False)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, triton_runtime: object) -> Iterator[Served]:
    """``reelkind web`` with the packaged bundles; leave it as you found it."""
    del triton_runtime  # skips where there is no tritonserver
    folder = tmp_path_factory.mktemp("web")
    with run_web(folder / "data", log=folder / "log") as found:
        yield found
