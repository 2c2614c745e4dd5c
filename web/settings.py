"""What the application is told at its start; handed as JSON to the processes that make it up."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reelkind.core.errors import ReelkindError

ENVIRONMENT = "REELKIND_WEB_SETTINGS"
_SECRET_BYTES = 32


class SettingsError(ReelkindError):
    """Settings that do not go together, or a data folder that is of no use."""


@dataclass(frozen=True)
class Limits:
    """How much of everything.

    Attributes:
        upload_bytes: largest file.
        queued: jobs that may wait; more are refused with 503.
        duration_s: longest video.
        decode_s: longest decoding of one clip, or wait for one chunk of a timeline.
        job_s: longest work on one job.
        server_s: how long a job waits for a server that went away before it is given up.
        worker_bytes: address space of a worker, and of each of its decoders.
        attempts: how often a job is begun whose worker dies.
        keep_s: age at which uploads, features and pictures go.
        keep_bytes: size to which they are cut down, oldest first.
        history_s: age at which finished jobs are forgotten.
        jobs_per_minute: new jobs from one address, and as many at once.
        requests_per_minute: requests of any kind from one address, and as many at once.
        streams: event streams open at a time; each holds a thread.
    """

    upload_bytes: int = 2 << 30
    queued: int = 200
    duration_s: float = 4 * 3600
    decode_s: float = 120
    job_s: float = 1800
    server_s: float = 120
    worker_bytes: int = 6 << 30
    attempts: int = 2
    keep_s: float = 7 * 86_400
    keep_bytes: int = 20 << 30
    history_s: float = 30 * 86_400
    jobs_per_minute: int = 120
    requests_per_minute: int = 3000
    streams: int = 64


@dataclass(frozen=True)
class Settings:
    """Everything a process of the application needs to know.

    Attributes:
        data: folder of database, uploads, features and pictures.
        url: address of the server, as ``client.Client`` takes it.
        host: address that is listened on.
        token: what callers must show; empty on loopback, where it may be left out.
        database: URL of SQLAlchemy; SQLite inside ``data`` if empty.
        workers: processes that work on jobs.
        fetch_urls: whether videos may be named by URL.
        prefetch: whether idle workers compute the features that a re-run with other options would need.
        limits: see ``Limits``.
    """

    data: Path
    url: str
    host: str = "127.0.0.1"
    token: str = ""
    database: str = ""
    workers: int = 2
    fetch_urls: bool = False
    prefetch: bool = True
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.token and not is_loopback(self.host):
            raise SettingsError(f"{self.host} can be reached from other machines: a token is required there")

    @property
    def uploads(self) -> Path:
        """Videos and features files, named by their SHA-256."""
        return self.data / "uploads"

    @property
    def features(self) -> Path:
        """Features of videos seen before, clips' and streams'."""
        return self.data / "features"

    @property
    def pictures(self) -> Path:
        """Frames that were classified, a folder a video."""
        return self.data / "pictures"

    @property
    def database_url(self) -> str:
        """Where jobs are."""
        return self.database or f"sqlite:///{self.data.absolute() / 'jobs.sqlite3'}"

    @property
    def secret(self) -> bytes:
        """Signs what browsers keep; made once for a data folder."""
        return (self.data / "secret").read_bytes()

    @property
    def identity(self) -> str:
        """Short name of this installation, the same in all its processes."""
        return hashlib.sha256(self.database_url.encode()).hexdigest()[:16]

    def prepare(self) -> None:
        """Make the folders and the secret.

        Raises:
            SettingsError: if they cannot be made.
        """
        try:
            for folder in (self.data, self.uploads, self.features, self.pictures):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                descriptor = os.open(self.data / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                return
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
        except OSError as error:
            raise SettingsError(
                f"{error.filename or self.data}: {error.strerror}: name another folder by --data"
            ) from error

    def to_json(self) -> str:
        """For the environment of the other processes."""
        return json.dumps({**asdict(self), "data": str(self.data)})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Undo ``to_json``."""
        raw: dict[str, Any] = json.loads(text)
        return cls(**{**raw, "data": Path(raw["data"]), "limits": Limits(**raw["limits"])})

    @classmethod
    def from_environment(cls) -> Settings:
        """Those that ``fleet`` has handed to this process."""
        return cls.from_json(os.environ[ENVIRONMENT])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host by this name."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
