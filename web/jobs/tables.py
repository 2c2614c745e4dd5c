"""The database: one table of jobs, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Engine, Float, Index, Integer, String, Text, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
STATUSES = (QUEUED, RUNNING, DONE, FAILED, CANCELLED)
OPEN = (QUEUED, RUNNING)

VIDEO, FEATURES, URL = "video", "features", "url"
KINDS = (VIDEO, FEATURES, URL)

BUSY_TIMEOUT_S = 10


class Base(DeclarativeBase):
    """Base of all tables."""


class Job(Base):
    """A file to classify, and what came of it.

    Attributes:
        number: order of arrival, which is the order of the queue.
        id: unguessable; who knows it may read the job.
        owner: digest of the browser's session; empty for callers without one.
        status: one of ``STATUSES``.
        kind: one of ``KINDS``.
        name: what the user calls the file; shown, never used as a path.
        upload: SHA-256 of the contents; empty for a URL that has not been fetched.
        media_type: by content.
        options: ``member``, ``tta``, ``abstain``, ``timeline``, and ``url`` of that kind.
        source: id of the job that this one asks again; empty if none.
        attempts: how often it was begun.
        worker: who works on it.
        lease_until: when it counts as abandoned unless its worker says otherwise; seconds since 1970.
        cancel: whether it shall be given up.
        stage: ``queued``, ``fetch``, ``decode``, ``server``, ``done``.
        progress: share of the stage, 0 .. 1; None if unknown.
        stages: stage -> milliseconds spent in it.
        result: as ``reelkind classify --jsonl``.
        timeline: ``client.Timeline.to_dict()``.
        pictures: moments of the frames kept as pictures, milliseconds.
        error: a sentence.
        prefetched: whether features for other options have been computed, or shall not be.
        created_at, started_at, finished_at, changed_at: seconds since 1970.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_status", "status", "number"), Index("jobs_by_owner", "owner", "number"))

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    id: Mapped[str] = mapped_column(String(32), unique=True)
    owner: Mapped[str] = mapped_column(String(64), default="")
    status: Mapped[str] = mapped_column(String(16), default=QUEUED)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(Text)
    upload: Mapped[str] = mapped_column(String(64), default="", index=True)
    media_type: Mapped[str] = mapped_column(String(64), default="")
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    source: Mapped[str] = mapped_column(String(32), default="")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str] = mapped_column(String(64), default="")
    lease_until: Mapped[float] = mapped_column(Float(53), default=0.0)
    cancel: Mapped[bool] = mapped_column(Boolean, default=False)
    stage: Mapped[str] = mapped_column(String(16), default=QUEUED)
    progress: Mapped[float | None] = mapped_column(Float(53), default=None)
    stages: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    timeline: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    pictures: Mapped[list[int]] = mapped_column(JSON, default=list)
    error: Mapped[str | None] = mapped_column(Text, default=None)
    prefetched: Mapped[bool] = mapped_column(Boolean, default=False)
    created_at: Mapped[float] = mapped_column(Float(53))
    started_at: Mapped[float | None] = mapped_column(Float(53), default=None)
    finished_at: Mapped[float | None] = mapped_column(Float(53), default=None)
    changed_at: Mapped[float] = mapped_column(Float(53), index=True)


def open_database(url: str) -> Engine:
    """Connect, and make the table where it is missing."""
    engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    Base.metadata.create_all(engine)
    return engine


def _set_up_sqlite(connection: Any, record: Any) -> None:
    del record
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers and the one writer do not wait for each other
    cursor.execute("PRAGMA synchronous=NORMAL")  # with WAL: safe against kill -9, not against a cut of the power
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    cursor.close()
