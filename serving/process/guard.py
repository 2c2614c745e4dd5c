"""Keeps tritonserver from outliving whoever started it. Run as a script, with the standard library alone.

    reelkind ──► guard (leader of a session of its own) ──► tritonserver ──► stubs of Python models

``argv[1]`` is JSON: ``parent`` (pid), ``grace_s``, ``shm_prefix``, ``owned`` (to be deleted if the parent dies),
``command``. SIGTERM or SIGINT ends it in peace; a second one, or ``grace_s`` running out, kills the session. So it goes
when the parent disappears without a word. Whatever the end, no process of the session and no shared memory with the
prefix is left. Exit status: tritonserver's, or 128 + signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_POLL_S = 0.2
_ORPHAN_GRACE_S = 3.0
_KILL_WAIT_S = 5.0
_BACKEND_START_S = 60.0  # tritonserver loads its backends within this time, on a starved machine too
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_ASKED = {signal.SIGTERM, signal.SIGINT}
_WATCHED = {*_ASKED, signal.SIGCHLD}


def main(job: dict[str, Any]) -> int:
    """Run the command to its end, or to ours."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)  # stubs that lose their server become ours to bury

    def become_child() -> None:
        os.umask(0o077)  # traces are nobody else's to read
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the guard has one thread, so its death is the guard's
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)

    orphaned = False
    before = set(_environment_folders())
    launched = time.time()
    try:
        server = subprocess.Popen(job["command"], preexec_fn=become_child, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"cannot execute {job['command'][0]}: {error.strerror}\n")
        return 127
    try:
        deadline: float | None = None
        while server.poll() is None:
            event = signal.sigtimedwait(_WATCHED, _POLL_S)
            # Interrupted as its time runs out, as by SIGSTOP and SIGCONT, CPython 3.11 tells of a signal there is not.
            asked = event is not None and event.si_signo in _ASKED
            orphaned = orphaned or os.getppid() != job["parent"]
            if deadline is None and (asked or orphaned):
                server.terminate()
                deadline = time.monotonic() + (_ORPHAN_GRACE_S if orphaned else job["grace_s"])
            elif deadline is not None and (asked or time.monotonic() > deadline):
                break
    finally:
        _kill_session()
        server.wait()
        _bury_orphans()
        for path in Path("/dev/shm").glob(job["shm_prefix"] + "*"):
            path.unlink(missing_ok=True)
        _remove_environment_folders(before, launched)
        if orphaned:
            for path in map(Path, job["owned"]):
                shutil.rmtree(path, ignore_errors=True)
                with contextlib.suppress(OSError):
                    path.unlink()
    status = server.returncode
    return status if status >= 0 else 128 - status


def _kill_session() -> None:
    """SIGKILL to everybody in this session but ourselves, until nobody is left."""
    deadline = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < deadline:
        others = [pid for pid in _session() if pid != os.getpid()]
        if not others:
            return
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


def _bury_orphans() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


def _environment_folders() -> list[Path]:
    """Where Triton's Python backends on this machine would unpack environments; ours stays empty."""
    return list(Path("/tmp").glob("python_env_??????"))


def _remove_environment_folders(before: set[Path], launched: float) -> None:
    """Remove the empty folder that the Python backend makes as it starts and, being killed, leaves behind."""
    for path in set(_environment_folders()) - before:
        with contextlib.suppress(OSError):  # not empty, so not ours; or gone already
            if path.stat().st_mtime < launched + _BACKEND_START_S:
                path.rmdir()


def _session() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        state, _, _, session = text[text.rindex(")") + 2 :].split()[:4]
        if int(session) == os.getsid(0) and state not in "ZX":
            found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
