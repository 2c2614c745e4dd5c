"""The key of a server, from its owner to its owner."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from reelkind.core.files.server_keys import drop_key, keep_key, known_key


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_key_is_known_by_each_port_until_it_is_dropped() -> None:
    assert known_key(8001) is None
    paths = keep_key((8001, 8000), "secret")
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
    assert (known_key(8001), known_key(8000), known_key(8002)) == ("secret", "secret", None)
    drop_key(paths, "secret")
    assert known_key(8001) is None
    drop_key(paths, "secret")  # gone already


def test_the_key_of_the_next_server_on_the_port_stays() -> None:
    old = keep_key((8001,), "old")
    keep_key((8001,), "new")
    drop_key(old, "old")
    assert known_key(8001) == "new"


def test_a_server_runs_without_a_folder_for_keys(cache: Path) -> None:
    Path(cache, "reelkind").write_text("in the way")
    assert keep_key((8001,), "secret") == []
    assert known_key(8001) is None
