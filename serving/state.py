"""A server that runs to a private file in the user's folder, and back: how commands on this machine find it.

The file is readable by its owner only: it holds the key to the APIs that strangers must not use.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reelkind.core.errors import ReelkindError
from reelkind.core.files.user_cache import NoHomeError, user_cache
from reelkind.core.files.whole_files import write_whole

from .errors import ServingError
from .process import processes
from .server import TritonServer
from .tls import ServerTls

logger = logging.getLogger(__name__)

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")


@dataclass(frozen=True)
class RunningServer:
    """What there is to know about a server.

    Attributes:
        url: ``host:port`` of gRPC.
        repository: its models.
        key: opens the restricted APIs; empty where they are open, as in a container of one's own.
        folders: member -> where bundles of it lie that were served, the latest first; empty if unknown.
        certificate, tls_key, client_ca: paths of its ``ServerTls``, empty where there is none.
        pid, start_ticks: the process that looks after it; 0 if unknown.
    """

    url: str
    repository: str
    key: str = ""
    folders: Mapping[str, Sequence[str]] | None = None
    certificate: str = ""
    tls_key: str = ""
    client_ca: str = ""
    pid: int = 0
    start_ticks: int = 0

    @property
    def tls(self) -> ServerTls | None:
        """Its certificate, if it has one."""
        if not self.certificate:
            return None
        return ServerTls(Path(self.certificate), Path(self.tls_key), Path(self.client_ca) if self.client_ca else None)


@contextmanager
def announced(server: TritonServer, bundles: Mapping[str, Path]) -> Iterator[None]:
    """Let commands of the same user find a server for as long as the block lasts; it serves without, too.

    Args:
        server: it runs.
        bundles: member -> folder it was made from.
    """
    process, tls = processes.read(os.getpid()), server.options.tls
    running = RunningServer(
        url=server.url,
        repository=str(server.repository),
        key=server.key,
        folders={name: [str(folder.absolute())] for name, folder in bundles.items()},
        certificate=str(tls.certificate.absolute()) if tls else "",
        tls_key=str(tls.key.absolute()) if tls else "",
        client_ca=str(tls.client_ca.absolute()) if tls and tls.client_ca else "",
        pid=os.getpid(),
        start_ticks=process.start_ticks if process else 0,
    )
    try:
        path = _write(running)
    except ReelkindError as error:  # NoHomeError, too
        logger.warning("`reelkind promote` will not find this server: %s", error)
        yield
        return
    try:
        yield
    finally:
        if _key_in(path) == server.key:  # the next server on this port may have announced itself already
            path.unlink(missing_ok=True)


def find_running(url: str) -> RunningServer | None:
    """The announced server behind ``host:port``, if it lives and is of this machine and user."""
    host, _, port = url.rpartition(":")
    if not port.isdecimal():
        return None
    try:
        running = RunningServer(**json.loads(_path(int(port)).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, NoHomeError):
        return None
    process = processes.read(running.pid)
    alive = process is not None and process.alive and process.start_ticks == running.start_ticks
    return running if alive and host in (*_LOCAL, running.url.rpartition(":")[0]) else None


def remember_bundle(running: RunningServer, member: str, folder: Path) -> None:
    """Say that a member is served from another folder now; a rollback makes one of the earlier ones right again."""
    if running.pid:
        folders, latest = running.folders or {}, str(folder.absolute())
        earlier = [known for known in folders.get(member, ()) if known != latest]
        _write(replace(running, folders={**folders, member: [latest, *earlier]}))


def _key_in(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(running: RunningServer) -> Path:
    path = _path(int(running.url.rpartition(":")[2]))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(path, json.dumps(asdict(running)), private=True)  # it holds the key
        return path
    except OSError as error:
        raise ServingError(f"cannot write {path}: {error.strerror}; set XDG_CACHE_HOME to a folder of yours") from error


def _path(grpc_port: int) -> Path:
    # Not in $XDG_RUNTIME_DIR: services and cron jobs have none, their owner's shell has.
    return user_cache("servers", f"server-{grpc_port}.json")
