"""The queue and its records: every change of a job is one statement, so that processes need no other lock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, delete, func, select, true, update
from sqlalchemy.orm import Session

from .tables import CANCELLED, DONE, FAILED, OPEN, QUEUED, RUNNING, Job

LEASE_S = 15.0
INTERRUPTED = (
    "the work was interrupted {times}, each time before it was finished. Try again; if it happens again, the file may "
    "need more memory than there is, or break its decoder."
)


class QueueFullError(Exception):
    """As many jobs wait as may."""


class Store:
    """Jobs in a database; threads and processes may share it, each process with an engine of its own.

    Args:
        engine: from ``tables.open_database``.
        max_queued: jobs that may wait.
        max_attempts: how often a job is begun whose worker dies.
    """

    def __init__(self, engine: Engine, *, max_queued: int = 200, max_attempts: int = 2) -> None:
        self._engine = engine
        self._max_queued, self._max_attempts = max_queued, max_attempts

    def add(self, values: Mapping[str, Any]) -> Job:
        """Put a job at the end of the queue.

        Raises:
            QueueFullError: if there is no room.
        """
        now = time.time()
        with Session(self._engine, expire_on_commit=False) as session:
            waiting = session.scalar(select(func.count()).where(Job.status == QUEUED)) or 0
            if waiting >= self._max_queued:
                raise QueueFullError
            job = Job(id=uuid.uuid4().hex, created_at=now, changed_at=now, **values)
            session.add(job)
            session.commit()
            return job

    def get(self, job_id: str) -> Job | None:
        """A job by its id."""
        with Session(self._engine, expire_on_commit=False) as session:
            return session.scalar(select(Job).where(Job.id == job_id))

    def of_owner(self, owner: str, limit: int = 100) -> Sequence[Job]:
        """A session's jobs, latest first."""
        if not owner:
            return []
        with Session(self._engine, expire_on_commit=False) as session:
            wanted = select(Job).where(Job.owner == owner).order_by(Job.number.desc()).limit(limit)
            return session.scalars(wanted).all()

    def positions(self) -> dict[str, int]:
        """Job that waits -> how many are served before and with it; the next one has 1."""
        with Session(self._engine) as session:
            waiting = session.scalars(select(Job.id).where(Job.status == QUEUED).order_by(Job.number)).all()
        return {job_id: position for position, job_id in enumerate(waiting, 1)}

    def state(self) -> tuple[float, int]:
        """Changes whenever a job does."""
        with Session(self._engine) as session:
            changed, count = session.execute(select(func.max(Job.changed_at), func.count())).one()
            return changed or 0.0, count

    def counts(self) -> dict[str, int]:
        """Status -> number of jobs."""
        with Session(self._engine) as session:
            rows = session.execute(select(Job.status, func.count()).group_by(Job.status)).all()
        return {row[0]: row[1] for row in rows}

    def claim(self, worker: str) -> Job | None:
        """Take the job that has waited longest; no other worker can take it then."""
        first = (
            select(Job.number)
            .where(Job.status == QUEUED)
            .order_by(Job.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        now = time.time()
        taking = (
            update(Job)
            .where(Job.number == first.scalar_subquery(), Job.status == QUEUED)
            .values(status=RUNNING, worker=worker, attempts=Job.attempts + 1, started_at=now, changed_at=now)
            .values(lease_until=now + LEASE_S, stages={QUEUED: 0.0})
            .returning(Job.id)
        )
        with Session(self._engine, expire_on_commit=False) as session:
            if session.scalar(select(func.count()).where(Job.status == QUEUED)) == 0:
                return None  # a reader's look costs less than a writer's
            job_id = session.scalar(taking)
            session.commit()
            return None if job_id is None else session.scalar(select(Job).where(Job.id == job_id))

    def tell(self, job: Job, **values: Any) -> bool:
        """Write down how far a running job is; False if it is no longer this worker's."""
        return self._change(job, lease_until=time.time() + LEASE_S, **values)

    def is_cancelled(self, job: Job) -> bool:
        """Whether somebody wants a running job to be given up, or it is no longer this worker's."""
        with Session(self._engine) as session:
            wanted = select(Job.cancel).where(Job.id == job.id, Job.status == RUNNING, Job.worker == job.worker)
            return session.scalar(wanted) is not False

    def finish(self, job: Job, status: str, **values: Any) -> bool:
        """End a running job; False if it is no longer this worker's."""
        return self._change(job, status=status, stage=DONE, progress=None, finished_at=time.time(), **values)

    def cancel(self, job_id: str) -> Job | None:
        """Give up a job: at once if it waits, as soon as its worker looks if it runs; nothing if it is over."""
        now = time.time()
        with Session(self._engine, expire_on_commit=False) as session:
            waits = update(Job).where(Job.id == job_id, Job.status == QUEUED)
            runs = update(Job).where(Job.id == job_id, Job.status == RUNNING)
            session.execute(waits.values(status=CANCELLED, stage=DONE, finished_at=now, changed_at=now))
            session.execute(runs.values(cancel=True, changed_at=now))
            session.commit()
            return session.scalar(select(Job).where(Job.id == job_id))

    def recover(self, worker: str | None = None, *, everyone: bool = False) -> int:
        """Put abandoned jobs back into the queue, or mark them; how many.

        Args:
            worker: one that is dead; by default, whoever has let his lease run out.
            everyone: all workers are, as when a folder's only fleet starts.
        """
        now = time.time()
        abandoned = true() if everyone else Job.lease_until < now if worker is None else Job.worker == worker
        mine = (Job.status == RUNNING, abandoned)
        times = "once" if self._max_attempts == 1 else "twice" if self._max_attempts == 2 else "several times"
        with Session(self._engine) as session:
            ended = {"stage": DONE, "progress": None, "finished_at": now, "changed_at": now, "worker": ""}
            given_up = session.execute(update(Job).where(*mine, Job.cancel).values(status=CANCELLED, **ended))
            failed = session.execute(
                update(Job)
                .where(*mine, Job.attempts >= self._max_attempts)
                .values(status=FAILED, error=INTERRUPTED.format(times=times), **ended)
            )
            again = session.execute(
                update(Job).where(*mine).values(status=QUEUED, stage=QUEUED, progress=None, worker="", changed_at=now)
            )
            session.commit()
            return sum(getattr(done, "rowcount", 0) for done in (given_up, failed, again))

    def next_to_prefetch(self) -> Job | None:
        """The latest finished video for which nobody has computed what other options need; it counts as done now."""
        newest = (
            select(Job.number)
            .where(Job.status == DONE, Job.kind != "features", Job.prefetched.is_(False))
            .order_by(Job.number.desc())
            .limit(1)
        )
        with Session(self._engine, expire_on_commit=False) as session:
            if (number := session.scalar(newest)) is None:
                return None
            taken = session.scalar(
                update(Job)
                .where(Job.number == number, Job.prefetched.is_(False))
                .values(prefetched=True)
                .returning(Job.id)
            )
            session.commit()
            return None if taken is None else session.scalar(select(Job).where(Job.id == taken))

    def uploads_in_use(self) -> set[str]:
        """Uploads that jobs still need."""
        with Session(self._engine) as session:
            return set(session.scalars(select(Job.upload).where(Job.status.in_(OPEN))).all())

    def forget(self, older_than_s: float) -> None:
        """Remove what was finished long ago."""
        with Session(self._engine) as session:
            session.execute(delete(Job).where(Job.status.not_in(OPEN), Job.finished_at < time.time() - older_than_s))
            session.commit()

    def _change(self, job: Job, **values: Any) -> bool:
        mine = (Job.id == job.id, Job.status == RUNNING, Job.worker == job.worker)
        with Session(self._engine) as session:
            done = session.execute(update(Job).where(*mine).values(changed_at=time.time(), **values))
            session.commit()
            return bool(getattr(done, "rowcount", 0))
