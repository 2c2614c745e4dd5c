"""Every example of docs/client.md runs as it stands; only addresses are put in the place of others."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from client.transport.test_tls import Certificates, certificates, served
from reelkind import client
from reelkind.cli.main import build_parser
from reelkind.core import specs

if TYPE_CHECKING:
    from reelkind.serving.server import TritonServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")

certificates = certificates


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Path:
    """Where the examples run: with the files they name."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(ROOT / "samples" / "natural_handheld.mp4", folder / "holiday.mp4")
    for name, path in (
        ("ca.pem", certificates.ca),
        ("client.pem", certificates.cert),
        ("client.key", certificates.key),
    ):
        shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def encrypted(certificates: Certificates) -> Iterator[str]:
    with served("grpc", certificates) as url:
        yield url


@pytest.mark.triton
@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: re.findall(r"import .*|$", block)[0])
def test_examples_run(block: str, folder: Path, triton_server: TritonServer, encrypted: str) -> None:
    addresses = {"127.0.0.1:8001": triton_server.url, "127.0.0.1:8011": triton_server.url, "gpu-7.lan:8001": encrypted}
    code = re.sub("|".join(map(re.escape, addresses)), lambda found: addresses[found[0]], block)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    promised = re.findall(r"print\(.*\)  # (?:None, confidence .* is |missing\.mp4: )(.*)", block)
    assert all(text in done.stdout for text in promised)


@pytest.mark.parametrize("command", [line for block in blocks("sh") for line in block.splitlines()])
def test_commands_exist(command: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "reelkind"
    build_parser().parse_args(arguments)


def test_all_calls_and_errors_are_on_the_page() -> None:
    calls = {name for name in vars(client.Client) if not name.startswith("_")} - {"close"}
    errors = {
        name
        for name in client.__all__
        if isinstance(getattr(client, name), type) and issubclass(getattr(client, name), client.ReelkindError)
    } - {"ReelkindError", "ClientError"}
    assert {name for name in calls if f"`{name}(" not in PAGE and f" `{name}(" not in PAGE} == set()
    assert {name for name in errors if f"`{name}`" not in PAGE} == set()


def test_limits_are_those_of_the_server() -> None:
    (videos,) = re.findall(r"\| videos in one request \| (\d+) \|", PAGE)
    (frames,) = re.findall(r"\| frames of a video \| (\d+) \|", PAGE)
    assert (int(videos), int(frames)) == (specs.MAX_BATCH, specs.MAX_FRAMES)
