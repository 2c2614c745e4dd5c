"""The guard with small commands in place of tritonserver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import reelkind.serving
from reelkind.serving.process import processes
from reelkind.serving.process.tree import ProcessTree

GUARD = Path(reelkind.serving.__file__).parent / "process" / "guard.py"
FAMILY = "sleep 100 & sleep 100 & wait"  # a server with two stubs


def wait_for(condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def tree(tmp_path) -> Iterator[ProcessTree]:
    made = ProcessTree(tmp_path / "log", grace_s=1.0, owned=[])
    yield made
    made.close()


def test_exit_status_and_output_are_the_commands(tree):
    tree.launch(["sh", "-c", "echo hello; exit 3"], dict(os.environ))
    wait_for(lambda: not tree.is_running())
    assert tree.exit_status() == 3
    assert tree.log() == b"hello\n"


def test_log_starts_anew_with_every_launch_but_keeps_the_past(tree):
    for word in ("first", "second"):
        tree.launch(["echo", word], dict(os.environ))
        wait_for(lambda: not tree.is_running())
    assert tree.log() == b"second\n"
    assert tree.log_file.read_bytes() == b"first\nsecond\n"


def test_command_that_cannot_run_is_said_in_the_log(tree):
    tree.launch(["/no/such/tritonserver"], dict(os.environ))
    wait_for(lambda: not tree.is_running())
    assert tree.exit_status() == 127
    assert tree.log() == b"cannot execute /no/such/tritonserver: No such file or directory\n"


def test_whole_family_ends_with_its_head(tree):
    tree.launch(["sh", "-c", FAMILY], dict(os.environ))
    wait_for(lambda: len(tree.process_ids()) == 4)
    (head,) = [pid for pid in tree.process_ids() if processes.read(pid).parent == tree._guard.pid]
    os.kill(head, signal.SIGKILL)
    wait_for(lambda: not tree.is_running())
    assert tree.exit_status() == 137
    assert tree.process_ids() == []


def test_deaf_command_is_killed_after_its_grace(tree):
    region = Path(f"/dev/shm/{tree.shm_prefix}region")
    region.touch()
    tree.launch(["sh", "-c", f"trap '' TERM; {FAMILY}"], dict(os.environ))
    wait_for(lambda: len(tree.process_ids()) == 4)
    started = time.monotonic()
    tree.terminate(graceful=True)
    assert 0.9 < time.monotonic() - started < 60.0
    assert tree.process_ids() == []
    assert not region.exists()


def test_killed_guard_takes_nobody_with_it_for_long(tree):
    tree.launch(["sh", "-c", FAMILY], dict(os.environ))
    wait_for(lambda: len(tree.process_ids()) == 4)
    tree._guard.kill()
    tree._guard.wait()
    tree.terminate(graceful=False)
    wait_for(lambda: tree.process_ids() == [])


def test_tree_without_a_launch_has_no_log(tree):
    assert tree.log() == b""


def test_closed_tree_launches_nothing(tree):
    tree.close()
    with pytest.raises(Exception, match="is being stopped"):
        tree.launch(["true"], dict(os.environ))


def test_killed_parent_leaves_no_process_no_memory_and_no_folder(tmp_path):
    owned = tmp_path / "owned"
    owned.mkdir()
    region = Path(f"/dev/shm/reelkind_test_{os.getpid()}_region")
    region.touch()
    job = {"grace_s": 1.0, "shm_prefix": region.name, "owned": [str(owned)], "command": ["sh", "-c", FAMILY]}
    parent_code = f"""
import json, os, subprocess, sys, time
job = {job!r} | {{"parent": os.getpid()}}
guard = subprocess.Popen([sys.executable, {str(GUARD)!r}, json.dumps(job)], start_new_session=True)
print(guard.pid, flush=True)
time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True) as parent:
        guard = int(parent.stdout.readline())
        wait_for(lambda: len(processes.session(guard)) == 4)
        parent.kill()
    wait_for(lambda: processes.session(guard) == [])
    assert not region.exists()
    assert not owned.exists()
