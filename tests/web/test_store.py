"""The queue on SQLite and on a real PostgreSQL: nothing is lost, nothing is done twice at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session

from reelkind.web.jobs.store import QueueFullError, Store
from reelkind.web.jobs.tables import CANCELLED, DONE, FAILED, QUEUED, RUNNING, Job, open_database

VALUES: dict[str, Any] = {"kind": "video", "name": "a.mp4", "upload": "0" * 64, "options": {"member": None}}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL of our own, on a Unix socket alone."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    places = ["/usr/local/bin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    found = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *places]))
    if found is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # its own user must reach it, and socket paths are short
    as_user: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to be root's
        if subprocess.run(["id", "-u", "postgres"], capture_output=True, check=False).returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = folder / "data"

    def run(program: str, *arguments: str) -> None:
        command = [*as_user, str(Path(found).resolve().with_name(program)), *arguments]
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run("initdb", "-D", str(data), "-U", "reelkind", "-A", "trust", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://reelkind@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    found = str(request.getfixturevalue("postgres"))
    engine = open_database(found)
    with Session(engine) as session:
        session.execute(delete(Job))
        session.commit()
    engine.dispose()
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    engine = open_database(url)
    yield Store(engine, max_queued=30)
    engine.dispose()


def test_jobs_are_taken_in_the_order_they_came(store: Store) -> None:
    ids = [store.add(VALUES).id for _ in range(3)]
    assert store.positions() == {job_id: place for place, job_id in enumerate(ids, 1)}
    taken = store.claim("worker")
    assert taken is not None
    assert (taken.id, taken.status, taken.attempts) == (ids[0], RUNNING, 1)
    assert store.positions() == {ids[1]: 1, ids[2]: 2}
    assert store.counts() == {QUEUED: 2, RUNNING: 1}


def test_no_job_is_taken_twice(url: str, store: Store) -> None:
    ids = {store.add(VALUES).id for _ in range(24)}
    taken: list[str] = []

    def work(name: str) -> None:
        engine = open_database(url)  # as a process of its own has it
        own = Store(engine)
        while (job := own.claim(name)) is not None or own.counts().get(QUEUED):
            if job is not None:
                taken.append(job.id)
                own.finish(job, DONE)
        engine.dispose()

    threads = [threading.Thread(target=work, args=(f"worker {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)
    assert store.counts() == {DONE: 24}


def test_a_full_queue_takes_no_more(store: Store) -> None:
    for _ in range(30):
        store.add(VALUES)
    with pytest.raises(QueueFullError):
        store.add(VALUES)


def test_the_job_of_a_dead_worker_is_begun_once_more_and_then_marked(store: Store) -> None:
    job_id, other = store.add(VALUES).id, store.add(VALUES).id
    store.claim("dead")
    held = store.claim("alive")
    store.recover("dead")
    assert store.positions() == {job_id: 1}
    again = store.claim("dead too")
    assert again is not None
    assert (again.id, again.attempts) == (job_id, 2)
    store.recover("dead too")
    marked = store.get(job_id)
    assert marked is not None
    assert marked.status == FAILED
    assert marked.error is not None
    assert "interrupted twice" in marked.error
    assert held is not None
    assert (held.id, store.get(other).status) == (other, RUNNING)  # type: ignore[union-attr]


def test_a_job_whose_lease_is_over_is_anyones(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = store.add(VALUES).id
    lost = store.claim("on a host that is gone")
    assert lost is not None
    assert store.recover() == 0
    later = time.time() + 60
    monkeypatch.setattr("reelkind.web.jobs.store.time.time", lambda: later)
    assert store.recover() == 1
    assert store.positions() == {job_id: 1}
    assert not store.finish(lost, DONE)  # should that host come back
    assert store.is_cancelled(lost)


def test_cancelling_ends_what_waits_and_asks_what_runs(store: Store) -> None:
    runs, waits = store.add(VALUES), store.add(VALUES)
    running = store.claim("worker")
    assert running is not None
    assert not store.is_cancelled(running)
    store.cancel(runs.id)
    store.cancel(waits.id)
    assert store.get(waits.id).status == CANCELLED  # type: ignore[union-attr]
    assert store.is_cancelled(running)
    store.recover("worker")  # which had to be killed
    assert store.get(runs.id).status == CANCELLED  # type: ignore[union-attr]
    store.cancel(runs.id)
    assert store.counts() == {CANCELLED: 2}


def test_results_come_back_as_they_were_written(store: Store) -> None:
    store.add({**VALUES, "owner": "me"})
    job = store.claim("worker")
    assert job is not None
    before = store.state()
    assert store.tell(job, stage="decode", progress=0.5)
    assert store.state() != before
    store.finish(job, DONE, result={"label": None, "scores": {"flat": 0.25}}, pictures=[0, 40])
    (found,) = store.of_owner("me")
    assert (found.result, found.timeline, found.pictures) == ({"label": None, "scores": {"flat": 0.25}}, None, [0, 40])
    assert store.of_owner("") == []
    store.forget(older_than_s=-1)
    assert store.of_owner("me") == []
