"""The server without a card runs within what its image and the chart leave it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import DEPLOY

# `read_only`, `cap_drop`, `no-new-privileges` and `tmpfs` of compose.yaml, in a mount namespace of its own.
CONFINE = """
mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm &&
mount -o remount,ro,bind / && exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""
PROGRAM = """
import os, signal, subprocess, sys, time
command = [sys.executable, "-m", "reelkind.cli.main"]
status = open("/proc/self/status").read()
assert "CapEff:\\t0000000000000000" in status, status
try:
    open(os.path.join(sys.argv[1], "written"), "w")
except OSError as error:
    print(error.strerror)
ports = [f"--{name}-port=0" for name in ("grpc", "http", "metrics")]
serve = [*command, "serve", "--bundle", sys.argv[1], *ports]
server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
ready = server.stdout.readline()
print(ready)
url = ready.split("grpc ")[1].split(",")[0]
print(subprocess.run([*command, "health", "--url", url], capture_output=True, text=True).stdout)
server.send_signal(signal.SIGTERM)
print("ended with", server.wait(60), "left", os.listdir("/dev/shm"))
"""


@pytest.mark.triton
def test_server_answers_without_capabilities_on_a_read_only_file_system(triton_runtime: object) -> None:
    del triton_runtime  # skips where there is none
    if os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("only root makes mount namespaces, with unshare and setpriv")
    if DEPLOY.is_relative_to("/tmp"):
        pytest.skip("this checkout is in /tmp, which the test hides")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    bundle = str(DEPLOY.parent / "bundles" / "lite")
    command = ["unshare", "-m", "sh", "-c", CONFINE, "sh", sys.executable, "-c", PROGRAM, bundle]
    environment = {
        **os.environ,
        "TMPDIR": "/tmp",
        "XDG_CACHE_HOME": "/tmp/cache",
        "REELKIND_SERVER_ENV": server_environment(),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "Read-only file system" in done.stdout
    assert "ready: grpc" in done.stdout
    assert "healthy: classify of lite answers" in done.stdout
    assert "ended with 0 left []" in done.stdout
    assert not Path(bundle, "written").exists()


def server_environment() -> str:
    """Where it lies now: the test's server has another cache folder."""
    from reelkind.serving.install.environment import find_server_env

    found = find_server_env()
    assert found is not None
    return str(found.folder)
