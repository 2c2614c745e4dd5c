"""A process that takes jobs one after the other: ``python -m reelkind.web.jobs.worker NUMBER``.

A thread beside the work keeps the job's lease alive and ends what is cancelled or takes too long: by closing decoder
and connections, and where that does not help, by ending the process, which ``fleet`` replaces.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import time
from typing import Any

from reelkind.client import ModelUnavailable, ProcessDecoder, ReelkindError, RequestTimeout, ServerUnavailable

from ..safety.fetching import FetchError, fetch
from ..settings import Settings
from . import humane
from .doorbell import Doorbell
from .files import upload_path
from .store import LEASE_S, Store
from .tables import CANCELLED, DONE, FAILED, QUEUED, URL, Job, open_database
from .watched_decoder import WatchedDecoder
from .work import Outcome, Workshop, choices_of

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.25
_PATIENCE_S = 5.0  # after which a job that was ended and has not is ended with its process
_NICENESS = 5  # the page answers first
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_IDLE_BEFORE_PREFETCH_S = 1.0


class Worker:
    """Takes jobs until its process is told to stop.

    Args:
        settings: of the application.
        number: of this worker on this machine.
    """

    def __init__(self, settings: Settings, number: int) -> None:
        self._settings, self._limits = settings, settings.limits
        self._name = f"{os.uname().nodename}:{os.getpid()}"
        self._store = Store(open_database(settings.database_url), max_attempts=self._limits.attempts)
        self._bell = Doorbell(settings.identity, number)
        self._stopping = threading.Event()
        self._open()

    def run(self) -> None:
        """Work."""
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            job = self._store.claim(self._name)
            if job is not None:
                self._do(job)
                idle_since = time.monotonic()
            elif not (time.monotonic() - idle_since > _IDLE_BEFORE_PREFETCH_S and self._prefetch()):
                self._bell.wait()
        self._close()

    def stop(self) -> None:
        """Take no further job."""
        self._stopping.set()

    def _do(self, job: Job) -> None:
        stages = _Stages(job)
        watch = _Watch(self, job)
        status, values = FAILED, dict[str, Any]()

        def tell(**changes: Any) -> None:
            if "stage" in changes:
                changes["stages"] = stages.enter(changes["stage"])
            self._store.tell(job, **changes)

        try:
            with watch:
                if job.kind == URL and not job.upload:
                    self._fetch(job, tell)
                outcome = self._outcome(job, tell, watch)
            status, values = DONE, vars(outcome)
        except (ReelkindError, FetchError) as error:
            values = {"error": humane.sentence(error, job.name) if isinstance(error, ReelkindError) else str(error)}
            logger.info("job %s failed: %s", job.id, error)
        except Exception:
            values = {"error": humane.sentence(Exception(), job.name)}
            logger.exception("job %s failed", job.id)
        if watch.reason is not None:
            status, values = watch.reason
            self._close()
            self._open()
        self._store.finish(job, status, stages=stages.enter(DONE), **values)

    def _outcome(self, job: Job, tell: Any, watch: _Watch) -> Outcome:
        """What comes of a job; if its server goes away meanwhile, once it is back.

        Raises:
            ReelkindError: if there is no answer.
        """
        try:
            return self._workshop.do(job, tell)
        except (ServerUnavailable, ModelUnavailable, RequestTimeout) as error:
            logger.info("job %s waits for the server: %s", job.id, error)
            tell(stage="server", progress=None)
            deadline = time.monotonic() + self._limits.server_s
            while not self._workshop.client().is_ready():
                if time.monotonic() > deadline or self._stopping.is_set() or watch.reason is not None:
                    raise
                time.sleep(_LOOK_EVERY_S)
            return self._workshop.do(job, tell)

    def _fetch(self, job: Job, tell: Any) -> None:
        tell(stage="fetch", progress=None)
        found = fetch(job.options["url"], self._settings.uploads, self._limits.upload_bytes)
        job.upload, job.media_type = found.sha256, found.media_type
        self._store.tell(job, upload=found.sha256, media_type=found.media_type)

    def _prefetch(self) -> bool:
        """Compute what the next job may need; whether there was anything."""
        if not self._settings.prefetch or (job := self._store.next_to_prefetch()) is None:
            return False
        path = upload_path(self._settings.uploads, job.upload, is_features=False)
        try:
            if path.is_file():
                self._workshop.prefetch(path, choices_of(self._workshop.client()), self._nobody_waits)
        except ReelkindError as error:
            logger.info("nothing prefetched for %s: %s", job.id, error)
        return True

    def _nobody_waits(self) -> bool:
        return not self._stopping.is_set() and self._store.counts().get(QUEUED, 0) == 0

    def _open(self) -> None:
        self._decoder = ProcessDecoder(1, timeout_s=self._limits.decode_s)
        self._workshop = Workshop(self._settings, WatchedDecoder(self._decoder, self._limits.duration_s))

    def _close(self) -> None:
        self._decoder.close()
        self._workshop.close()

    def end_work(self) -> None:
        """Make what is under way end with an error."""
        self._close()

    def is_cancelled(self, job: Job) -> bool:
        """Whether somebody wants a job to be given up."""
        return self._store.is_cancelled(job)

    def renew(self, job: Job) -> None:
        """Say that the job is being worked on."""
        self._store.tell(job)

    @property
    def job_s(self) -> float:
        """Longest work on one job."""
        return self._limits.job_s


class _Stages:
    """How long a job was in each stage."""

    def __init__(self, job: Job) -> None:
        self._spent: dict[str, float] = {QUEUED: ((job.started_at or job.created_at) - job.created_at) * 1000}
        self._stage, self._since = "", time.perf_counter()

    def enter(self, stage: str) -> dict[str, float]:
        """Begin one; stage -> milliseconds of those that are over."""
        now = time.perf_counter()
        if self._stage:
            self._spent[self._stage] = self._spent.get(self._stage, 0.0) + (now - self._since) * 1000
        self._stage, self._since = stage, now
        return {name: round(spent, 1) for name, spent in self._spent.items()}


class _Watch:
    """Looks after one job from a thread.

    Attributes:
        reason: status and values with which the job was ended from here; None if it was not.
    """

    def __init__(self, worker: Worker, job: Job) -> None:
        self._worker, self._job = worker, job
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.reason: tuple[str, dict[str, Any]] | None = None

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        started = renewed = time.monotonic()
        while not self._over.wait(_LOOK_EVERY_S):
            now = time.monotonic()
            if self._worker.is_cancelled(self._job):
                self.reason = (CANCELLED, {})
            elif now - started > self._worker.job_s:
                limit = f"{self._worker.job_s:g} seconds"
                self.reason = (FAILED, {"error": f"It took longer than {limit} and was given up: try a shorter video."})
            elif now - renewed > LEASE_S / 5:
                self._worker.renew(self._job)
                renewed = now
            if self.reason is not None:
                self._worker.end_work()
                if not self._over.wait(_PATIENCE_S):
                    os.kill(os.getpid(), signal.SIGKILL)
                return


def main(number: int) -> None:
    """Run a worker as a process of ``fleet``."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # without its fleet nobody would watch it
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = Settings.from_environment()
    limit = settings.limits.worker_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # decoders inherit it
    os.nice(_NICENESS)
    worker = Worker(settings, number)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the fleet, which will say
    worker.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
