"""What happens to jobs when a process is ended by SIGKILL in the middle of one: the real command, the real server."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.error import URLError

import pytest
from videos import write_video

from .conftest import SAMPLES
from .served import Served, run_web

pytestmark = pytest.mark.triton

MINUTES_S = 240.0  # machines under load
NUMBERS = count()


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory, triton_runtime: object) -> Iterator[Served]:
    """An application of this module's own."""
    del triton_runtime
    folder = tmp_path_factory.mktemp("killed")
    with run_web(folder / "data", log=folder / "log") as found:
        yield found


@pytest.fixture
def long_video(tmp_path: Path) -> Path:
    """A minute, whose timeline takes a worker seconds; no other's features are its."""
    return write_video(tmp_path / "long.mp4", 1200, fps=20, size_px=(320 + 2 * next(NUMBERS), 192))


def begun(served: Served, path: Path, **fields: str) -> str:
    """Id of a job that a worker is in the middle of."""
    job = served.post(path, timeline="true", **fields)
    served.until(job["id"], lambda job: job["status"] == "running" and job["stage"] in ("decode", "server"), MINUTES_S)
    return str(job["id"])


def test_the_job_of_a_killed_worker_is_begun_once_more_and_no_other_is_hurt(killable: Served, long_video: Path) -> None:
    before = set(killable.pids("reelkind.web.jobs.worker"))
    hit = begun(killable, long_video)
    other = killable.post(SAMPLES / "natural_handheld.mp4")["id"]
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    job = killable.finished(hit, MINUTES_S)
    assert (job["status"], job["attempts"]) == ("done", 2)
    assert killable.finished(other, MINUTES_S)["result"]["label"] == "natural"
    after = set(killable.pids("reelkind.web.jobs.worker"))
    assert len(after) == len(before)
    assert not after & before


def test_jobs_go_on_while_the_web_process_is_replaced(killable: Served, long_video: Path) -> None:
    hit = begun(killable, long_video)
    (master, *_) = sorted(killable.pids("reelkind.web.gunicorn_app"))
    for pid in killable.pids("reelkind.web.gunicorn_app"):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + MINUTES_S
    while True:  # its socket is the fleet's: callers wait, and are served by the next one
        try:
            job = killable.finished(hit, MINUTES_S)
            break
        except (URLError, OSError):  # those that the dead process had accepted
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert (job["status"], job["attempts"]) == ("done", 1)
    assert master not in killable.pids("reelkind.web.gunicorn_app")


def test_jobs_wait_for_a_killed_tritonserver_to_come_back(killable: Served, long_video: Path) -> None:
    hit = begun(killable, long_video)
    servers = killable.pids("bin/tritonserver")
    assert servers
    for pid in servers:
        os.kill(pid, signal.SIGKILL)
    waiting = [killable.post(path)["id"] for path in sorted(SAMPLES.glob("*.mp4"))]
    job = killable.finished(hit, MINUTES_S)
    assert (job["status"], job["attempts"], job["error"]) == ("done", 1, None)
    found = [killable.finished(each, MINUTES_S) for each in waiting]
    assert [each["result"]["label"] for each in found] == [
        path.stem.split("_")[0] for path in sorted(SAMPLES.glob("*.mp4"))
    ]
    assert not set(servers) & set(killable.pids("bin/tritonserver"))


def test_after_a_killed_fleet_the_history_is_there(tmp_path: Path, long_video: Path, triton_runtime: object) -> None:
    del triton_runtime
    with run_web(tmp_path / "data", log=tmp_path / "log") as served:
        done = served.finished(served.post(SAMPLES / "flat_slides.mp4")["id"], MINUTES_S)
        hit = begun(served, long_video)
        os.kill(served.process.pid, signal.SIGKILL)
        served.process.wait(30)
    with run_web(tmp_path / "data", log=tmp_path / "log2") as served:
        assert served.get(f"api/jobs/{done['id']}")["result"] == done["result"]
        job = served.finished(hit, MINUTES_S)
        assert (job["status"], job["attempts"]) == ("done", 2)
