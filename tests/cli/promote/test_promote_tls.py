"""``reelkind promote`` against a real server that encrypts and lets nobody in without a certificate."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import trustme

from reelkind.cli.main import main
from reelkind.client import Client, Tls
from reelkind.deployment.embedded import temporary_repository
from reelkind.serving.options import ServerOptions
from reelkind.serving.process import processes
from reelkind.serving.server import TritonServer
from reelkind.serving.state import announced
from reelkind.serving.tls import ServerTls
from tests.serving.new_version import write_new_version
from tests.videos import write_video

pytestmark = pytest.mark.triton

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)


def issue(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """Write a new certificate for this machine, and its key, over those that lie there."""
    made = authority.issue_cert("127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / "server.pem")
    made.private_key_pem.write_to_path(folder / "server.key")
    return folder / "server.pem", folder / "server.key"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority, triton_runtime, served_bundle, tmp_path_factory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    tls = ServerTls(*issue(authority, folder), folder / "ca.pem")
    free = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    with (
        temporary_repository([served_bundle.folder], triton_runtime, ensembles=["classify"]) as repository,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        server = TritonServer(repository, runtime=triton_runtime, options=ServerOptions(tls=tls), **free)
        with server, announced(server, {served_bundle.name: served_bundle.folder}):
            yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def client(server, authority, tmp_path) -> Iterator[Client]:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("user@example.org")
    own.cert_chain_pems[0].write_to_path(tmp_path / "user.pem")
    own.private_key_pem.write_to_path(tmp_path / "user.key")
    with Client(
        server.url,
        tls=Tls(tmp_path / "ca.pem", tmp_path / "user.pem", tmp_path / "user.key"),
        timeout_s=120,
        retry_s=60,
    ) as client:
        yield client


def test_new_version_is_promoted_and_taken_back(server, client, served_bundle, clip, tmp_path, capsys):
    new = write_new_version(served_bundle, tmp_path / "new", temperature=4.0)
    before = client.classify_frames(FRAMES).confidence
    assert main(["promote", str(new.folder), "--url", server.url, "--clips", str(clip)]) == 0
    assert f"promoted: backbone_{new.name} 2" in capsys.readouterr().out
    assert client.classify_frames(FRAMES).confidence < before
    assert main(["promote", "--rollback", "--url", server.url, "--clips", str(clip)]) == 0
    assert client.classify_frames(FRAMES).confidence == before


def test_certificate_renewed_on_disk_is_said_and_disturbs_nobody(server, client, authority, clip, capsys):
    before = client.classify_frames(FRAMES).confidence
    certificate, _ = issue(authority, server.options.tls.certificate.parent)
    assert main(["promote", "--rollback", "--url", server.url, "--clips", str(clip)]) == 1
    said = f"{certificate} was renewed after the server at {server.url} had read it: start the server again first"
    assert said in capsys.readouterr().err
    server._supervisor._next_canary = 0.0
    server.wait(1.0)  # the supervisor goes on with what it has read
    assert client.classify_frames(FRAMES).confidence == before
    guard = server._tree._guard.pid
    (tritonserver,) = [process.pid for process in processes.session(guard) if process.parent == guard]
    os.kill(tritonserver, signal.SIGKILL)  # the supervisor starts it again, which reads the files anew
    assert client.classify_frames(FRAMES).confidence == before
    assert main(["promote", "--rollback", "--url", server.url, "--clips", str(clip)]) == 0
