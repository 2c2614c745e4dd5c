"""``reelkind web`` as a person starts it: a process on a free port, with a server of its own or another's."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

START_S, ANSWER_S = 180.0, 60.0


@dataclass
class Served:
    """A running application.

    Attributes:
        url: of the page, with a slash.
        data: its folder.
        process: that of the command.
    """

    url: str
    data: Path
    process: subprocess.Popen[str]

    def get(self, path: str) -> Any:
        """JSON of a path."""
        with urllib.request.urlopen(self.url + path, timeout=30) as response:
            return json.load(response)

    def post(self, file: Path | None = None, **fields: str) -> dict[str, Any]:
        """A new job."""
        body, content_type = form(fields, file)
        request = urllib.request.Request(self.url + "api/jobs", body, {"Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=60) as response:
            return dict(json.load(response))

    def cancel(self, job_id: str) -> None:
        """Give a job up."""
        request = urllib.request.Request(f"{self.url}api/jobs/{job_id}", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()

    def finished(self, job_id: str, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """A job when it is over."""
        return self.until(job_id, lambda job: job["status"] not in ("queued", "running"), timeout_s)

    def until(
        self, job_id: str, is_so: Callable[[dict[str, Any]], bool], timeout_s: float = ANSWER_S
    ) -> dict[str, Any]:
        """A job when something is so."""
        deadline = time.monotonic() + timeout_s
        while True:
            job = dict(self.get(f"api/jobs/{job_id}"))
            if is_so(job):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.1)  # well within the limit of requests a minute

    def pids(self, part_of_command: str) -> list[int]:
        """Its processes, at any depth, whose command line has this in it."""
        found = []
        for pid in descendants(self.process.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if part_of_command in command:
                found.append(pid)
        return found


def form(fields: dict[str, str], file: Path | None) -> tuple[bytes, str]:
    """Body and content type of multipart/form-data."""
    border = uuid4().hex
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if file is not None:
        head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n\r\n'
        parts.append(head.encode() + file.read_bytes() + b"\r\n")
    return b"".join([*parts, f"--{border}--\r\n".encode()]), f"multipart/form-data; boundary={border}"


def descendants(pid: int) -> list[int]:
    """Children of a process, and theirs; itself last."""
    try:
        tasks = [task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [other for task in tasks for child in task.split() for other in descendants(int(child))] + [pid]


@contextmanager
def run_web(data: Path, *arguments: str, log: Path) -> Iterator[Served]:
    """The command until the block ends; all of its processes are gone then."""
    command = [sys.executable, "-m", "reelkind.cli.main", "-v", "web", "--port", "0", "--data", str(data), *arguments]
    with log.open("a") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)
        family: list[int] = []
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            if found is None:
                process.wait(30)
                if "no tritonserver" in log.read_text() or "environment" in log.read_text():
                    pytest.skip(f"no tritonserver: {log.read_text()[-300:]}")
                raise AssertionError(log.read_text())
            yield Served(found[0], data, process)
        finally:
            family = descendants(process.pid)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]
            deadline = time.monotonic() + 10
            while any(_is_alive(pid) for pid in family) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not [pid for pid in family if _is_alive(pid)]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
