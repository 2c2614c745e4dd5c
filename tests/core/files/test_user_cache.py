"""Where caches are, and that having nowhere for them stops nobody who needs none."""

import subprocess
import sys
from pathlib import Path

import pytest

from reelkind.core.files.user_cache import NoHomeError, user_cache

HOMELESS = """
import os, sys
from reelkind.cli.main import main
os.environ.pop("HOME", None), os.environ.pop("XDG_CACHE_HOME", None)
os.getuid = lambda: 54321  # stands for a container that runs under a number without a name
sys.exit(main(sys.argv[1:]))
"""


def test_caches_are_where_the_user_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert user_cache("features") == Path("/somewhere/reelkind/features")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_cache() == Path("/home/someone/.cache/reelkind")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")  # the specification ignores what is not absolute
    assert user_cache() == Path("/home/someone/.cache/reelkind")


def test_without_a_home_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name")
    with pytest.raises(NoHomeError, match="set HOME or XDG_CACHE_HOME"):
        user_cache("features")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["features", "cache", "folder"], 0, "folder: 0 entries"),
        (["features", "cache"], 1, "reelkind: there is no home folder for caches"),
        (["evaluate", "--help"], 0, "in the user's cache"),
    ],
    ids=["no-cache-needed", "cache-needed", "help"],
)
def test_without_a_home_the_command_line_works(arguments: list[str], status: int, said: str, tmp_path: Path) -> None:
    code = [sys.executable, "-c", HOMELESS, *arguments]
    done = subprocess.run(code, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr
    assert said in " ".join((done.stdout + done.stderr).split())
