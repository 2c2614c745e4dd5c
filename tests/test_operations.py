"""docs/operations.md is true: its commands exist, and a real server has the metrics it speaks of."""

from __future__ import annotations

import re
import shlex
import urllib.request
from pathlib import Path

import pytest

from reelkind.cli.main import build_parser
from reelkind.serving.models import allow_response_cache
from reelkind.serving.options import ServerOptions
from reelkind.serving.server import TritonServer
from tests.serving import tiny_repository

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
def test_metrics_of_the_page_are_those_of_a_server(triton_runtime, tmp_path) -> None:
    repository = tiny_repository.write(tmp_path)
    allow_response_cache(repository)
    free = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    options = ServerOptions(response_cache_bytes=2**20)
    with TritonServer(repository, runtime=triton_runtime, options=options, **free) as server:
        answer = urllib.request.urlopen(tiny_repository.metrics_url(server), timeout=60)
        with answer:
            offered = set(re.findall(r"^(nv_\w+)\{", answer.read().decode(), re.MULTILINE))
    named = set(re.findall(r"nv_\w+", TEXT))
    assert len(named) > 8
    assert named <= offered
