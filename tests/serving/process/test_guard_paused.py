"""The guard when the machine stops it for a while, as a debugger, a container freezer or a laptop's lid do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import reelkind.serving

GUARD = Path(reelkind.serving.__file__).parent / "process" / "guard.py"


def test_pause_is_no_request_to_end():
    job = {
        "parent": os.getpid(),
        "grace_s": 1.0,
        "shm_prefix": "reelkind-none-",
        "owned": [],
        "command": ["sleep", "100"],
    }
    with subprocess.Popen([sys.executable, str(GUARD), json.dumps(job)], start_new_session=True) as guard:
        children = Path(f"/proc/{guard.pid}/task/{guard.pid}/children")
        deadline = time.monotonic() + 60.0
        while not children.read_text():
            assert time.monotonic() < deadline, "nothing was started"
            time.sleep(0.02)
        for _ in range(3):
            os.kill(guard.pid, signal.SIGSTOP)
            time.sleep(0.5)  # longer than the guard waits between two looks
            os.kill(guard.pid, signal.SIGCONT)
            time.sleep(0.3)
        assert guard.poll() is None
        assert len(children.read_text().split()) == 1
        guard.terminate()
        assert guard.wait(60) == 128 + signal.SIGTERM
