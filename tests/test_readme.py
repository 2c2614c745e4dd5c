"""The front page stays true: its tables are what the code and the results say, its commands exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reelkind.cli.main import build_parser
from reelkind.serving.server import TritonServer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_tables_of_all_pages_are_current() -> None:
    command = [sys.executable, ROOT / "docs" / "readme_tables.py", "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def shell_commands() -> list[str]:
    """Lines of ``sh`` code blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip().rstrip("&").strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("command", shell_commands())
def test_command_exists(command: str) -> None:
    program, *arguments = shlex.split(command.split("|")[-1].split(">")[0])
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert {name for name in arguments if "=" not in name} <= targets
    elif Path(program).name == "reelkind":
        build_parser().parse_args(arguments)
    else:
        assert (program, arguments) == ("source", [".venv/bin/activate"])


@pytest.mark.triton
@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.DOTALL), ids=["one file", "many files"])
def test_example_runs_as_a_script(block: str, triton_server: TritonServer, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    paths = f"paths = {sorted(map(str, (ROOT / 'samples').glob('*.mp4')))}\n"  # what the example calls its own
    script.write_text(paths + block.replace("127.0.0.1:8001", triton_server.url), encoding="utf-8")
    environment = {**os.environ, "REELKIND_URL": triton_server.url}
    command = [sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "flat" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
