"""docs/operations.md is true: its commands exist, and a real server has the metrics it speaks of."""

from __future__ import annotations

import re
import shlex
import urllib.request
from pathlib import Path

import pytest

from reelkind.cli.main import build_parser

TEXT = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("reelkind ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command: str) -> None:
    build_parser().parse_args(shlex.split(command)[1:])


@pytest.mark.triton
def test_metrics_of_the_page_are_those_of_a_server(triton_server) -> None:
    named = set(re.findall(r"nv_\w+", TEXT))
    with urllib.request.urlopen(triton_server.addresses.metrics_url, timeout=5) as answer:
        offered = set(re.findall(r"^# HELP (nv_\w+)", answer.read().decode(), re.MULTILINE))
    assert named
    assert {name for name in named if not name.startswith("nv_cache")} <= offered
