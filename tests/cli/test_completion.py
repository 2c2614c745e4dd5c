"""`reelkind completion`: what a real shell offers, given the script."""

import shutil
import subprocess
from pathlib import Path

import pytest

from reelkind.cli.main import main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "reelkind.bash"
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        assert main(["completion", "bash"]) == 0
    return path


def offered(script: Path, *words: str) -> list[str]:
    """What is offered for the last of the words behind ``reelkind``."""
    ask = 'source "$0"; COMP_WORDS=(reelkind "$@"); COMP_CWORD=$#; _reelkind; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask, script, *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cl"], ["classify"]),
        (["-v", "ex"], ["export"]),
        (["export", "pa"], ["parity"]),
        (["dataset", "yt8m", "se"], ["select"]),
        (["classify", "--tta", "f"], ["fast", "full"]),
        (["classify", "film.mp4", "--ab"], ["--abstain", "--abstain-below"]),
        (["export", "engine", "--precision", ""], ["fp32", "fp16"]),
        (["completion", ""], ["bash", "zsh"]),
        (["classify", ""], []),
        (["classify", "serve", "--grpc"], []),
    ],
    ids=" ".join,
)
def test_bash_is_offered_what_may_follow(script: Path, words: list[str], expected: list[str]) -> None:
    assert offered(script, *words) == expected, "nothing means: names of files"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here")
def test_zsh_reads_the_script(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["completion", "zsh"]) == 0
    path = tmp_path / "reelkind.zsh"
    path.write_text(capsys.readouterr().out)
    done = subprocess.run(["zsh", "-fc", f"source {path} && print $_comps[reelkind]"], capture_output=True, text=True)
    assert done.stdout.strip(), done.stderr
