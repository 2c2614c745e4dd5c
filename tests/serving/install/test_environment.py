import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from reelkind.serving.errors import ServingError
from reelkind.serving.install import environment
from reelkind.serving.install.environment import check_platform, find_server_env, pins_hash, prepare_server_env

FACTS = {
    "python_version": "3.11",
    "library_folder": "/usr/lib",
    "library_name": "libpython3.11.so.1.0",
    "packages_folder": "/packages",
    "versions": {"numpy": "1.26.4", "onnxruntime": "1.32.0", "nvidia-pytriton": "0.7.0"},
}


class Commands:
    """Stands in for subprocesses: remembers them and answers by their purpose."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.answers = {"venv": (0, ""), "pip": (0, ""), "probe": (0, json.dumps(FACTS)), "load": (0, "")} | answers
        self.seen: list[str] = []

    def __call__(self, command, variables=None):
        purpose = command[2] if command[1] == "-m" else "probe" if "-I" in command else "load"
        self.seen.append(purpose)
        status, output = self.answers[purpose]
        if purpose == "venv" and status == 0:
            python = Path(command[3], "bin", "python")
            python.parent.mkdir()
            python.touch()
        return subprocess.CompletedProcess(command, status, output)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(environment.ENV_VARIABLE, raising=False)
    monkeypatch.setattr(environment, "check_platform", lambda: None)
    monkeypatch.setattr(environment, "_choose_python", lambda: ("3.11", "python3.11"))
    return tmp_path / "reelkind" / f"server-{pins_hash('3.11')}"


def install(monkeypatch, **answers) -> Commands:
    commands = Commands(**answers)
    monkeypatch.setattr(environment, "_run", commands)
    return commands


def test_hash_changes_with_pins_and_python_but_not_with_comments(monkeypatch, tmp_path):
    before = pins_hash("3.11")
    assert pins_hash("3.12") != before
    changed = tmp_path / "pins.txt"
    monkeypatch.setattr(environment, "REQUIREMENTS", changed)
    original = Path(environment.__file__).with_name("server-constraints.txt").read_text()
    changed.write_text("# another comment\n\n" + original)
    assert pins_hash("3.11") == before
    changed.write_text(original.replace("numpy==1.26.4", "numpy==1.26.3"))
    assert pins_hash("3.11") != before


def test_pins_name_no_index_and_keep_numpy_below_2():
    text = environment.REQUIREMENTS.read_text()
    assert "http" not in text
    assert "-i" not in text.split()
    assert "numpy==1." in text


def test_second_call_runs_nothing(monkeypatch, folder):
    said = []
    install(monkeypatch)
    made = prepare_server_env(said.append)
    assert made.folder == folder
    assert said[-1] == "the server's environment is ready"
    again = install(monkeypatch, venv=(1, ""), pip=(1, ""), probe=(1, ""))
    assert prepare_server_env() == made
    assert again.seen == []


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        pytest.param({"venv": (1, "ensurepip is not available")}, "apt install python3-venv", id="no venv module"),
        pytest.param(
            {"pip": (1, "NewConnectionError: x\nERROR: No matching distribution")}, "when online", id="offline"
        ),
        pytest.param({"pip": (1, "ERROR: no space\nERROR: more")}, "cannot be installed: no space", id="pip's reason"),
        pytest.param({"load": (1, "OSError")}, "install libpython3.11", id="Python without shared library"),
    ],
)
def test_half_made_environment_is_never_used(monkeypatch, folder, failure, sentence):
    install(monkeypatch, **failure)
    with pytest.raises(ServingError, match=sentence) as raised:
        prepare_server_env()
    assert "\n" not in str(raised.value)
    assert find_server_env() is None
    commands = install(monkeypatch)
    assert prepare_server_env().folder == folder
    assert commands.seen == ["venv", "pip", "probe", "load"]


def test_environment_of_other_pins_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.ENV_VARIABLE, str(tmp_path / "mine"))
    install(monkeypatch)
    prepare_server_env()
    monkeypatch.setattr(environment, "pins_hash", lambda version: "of another release")
    assert find_server_env() is None
    assert prepare_server_env().pins == "of another release"


def test_foreign_folder_is_refused_and_left_alone(monkeypatch, tmp_path):
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").touch()
    monkeypatch.setenv(environment.ENV_VARIABLE, str(foreign))
    with pytest.raises(ServingError, match="is no server environment"):
        prepare_server_env()
    assert (foreign / "cat.jpg").exists()


def test_environment_made_by_hand_is_used_unless_numpy_is_too_new(monkeypatch, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setenv(environment.ENV_VARIABLE, str(tmp_path / "venv"))
    assert install(monkeypatch).seen == []
    assert prepare_server_env().packages_folder == Path("/packages")
    facts = FACTS | {"versions": FACTS["versions"] | {"numpy": "2.4.6"}}
    install(monkeypatch, probe=(0, json.dumps(facts)))
    with pytest.raises(ServingError, match=r"has numpy 2\.4\.6, the server needs numpy < 2"):
        prepare_server_env()


def test_unwritable_cache_names_the_way_out(monkeypatch, tmp_path):
    (tmp_path / "reelkind").write_text("a file where a folder should be")
    install(monkeypatch)
    with pytest.raises(ServingError, match="set REELKIND_SERVER_ENV to another folder"):
        prepare_server_env()


def test_a_full_disk_is_said_before_anything_is_fetched(monkeypatch, folder):
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: SimpleNamespace(free=100 << 20))
    commands = install(monkeypatch)
    with pytest.raises(ServingError, match=r"has 100 MiB left .* takes 400: make room, or set REELKIND_SERVER_ENV"):
        prepare_server_env()
    assert commands.seen == []


@pytest.mark.parametrize(
    ("system", "machine", "libc", "named"),
    [
        ("Darwin", "arm64", ("", ""), "this is Darwin on arm64"),
        ("Linux", "aarch64", ("glibc", "2.39"), "this is Linux on aarch64"),
        ("Linux", "x86_64", ("glibc", "2.31"), r"needs glibc 2\.35 .* this is glibc 2\.31"),
        ("Linux", "x86_64", ("", ""), "another C library"),
    ],
)
def test_other_machines_are_refused_in_one_sentence(monkeypatch, system, machine, libc, named):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(ServingError, match=named):
        check_platform()


def test_unsupported_python_looks_for_another(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(sys, "version_info", type("V", (), {"major": 3, "minor": 14}))
    monkeypatch.setattr(environment.shutil, "which", lambda name: f"/bin/{name}" if name == "python3.11" else None)
    monkeypatch.setattr(environment, "_run", lambda command: subprocess.CompletedProcess(command, 0, ""))
    assert environment._choose_python() == ("3.11", "/bin/python3.11")
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    with pytest.raises(ServingError, match=r"no Python backend for Python 3\.14: put a python3\.12"):
        environment._choose_python()
