"""A host and three ports to addresses that are free to listen on."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from .errors import ServingError

LOOPBACK = "127.0.0.1"
_ANY = "0.0.0.0"  # what "all interfaces" looks like to a server; clients on this machine use loopback


@dataclass(frozen=True)
class Addresses:
    """Where a server listens.

    Attributes:
        bind: IPv4 address that the server binds.
        grpc_port, http_port, metrics_port: its three ports.
        encrypted: gRPC is; HTTP, which is not, then listens on loopback only.
    """

    bind: str
    grpc_port: int
    http_port: int
    metrics_port: int
    encrypted: bool = False

    @property
    def http_bind(self) -> str:
        """IPv4 address that HTTP binds."""
        return LOOPBACK if self.encrypted else self.bind

    @property
    def reach(self) -> str:
        """The address that a client on this machine connects to."""
        return LOOPBACK if self.bind == _ANY else self.bind

    @property
    def ports(self) -> tuple[int, int, int]:
        """The three ports."""
        return self.grpc_port, self.http_port, self.metrics_port

    @property
    def listeners(self) -> list[tuple[str, int]]:
        """Host and port of each service, as a client on this machine connects to it."""
        http_host = LOOPBACK if self.encrypted else self.reach
        return [(self.reach, self.grpc_port), (http_host, self.http_port), (self.reach, self.metrics_port)]

    @property
    def grpc_url(self) -> str:
        """``host:port`` as gRPC clients on this machine want it."""
        return f"{self.reach}:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP API."""
        host, port = self.listeners[1]
        return f"http://{host}:{port}"

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach it."""
        return not self.bind.startswith("127.")


def claim(host: str, grpc_port: int, http_port: int, metrics_port: int, *, encrypted: bool = False) -> Addresses:
    """Resolve the host, pick a free port for every 0 and make sure that the others are free now.

    Args:
        host: IPv4 address or name to listen on.
        grpc_port: the port wanted for gRPC.
        http_port: for HTTP.
        metrics_port: for metrics.
        encrypted: see ``Addresses``.

    Raises:
        ServingError: naming the port that is taken or the host that is not ours.
    """
    try:
        bind = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except (OSError, UnicodeError):  # the latter for what no name can look like
        raise ServingError(f"host {host!r} is neither an IPv4 address nor a name of one") from None
    wanted = {"grpc": grpc_port, "http": http_port, "metrics": metrics_port}
    with ExitStack() as stack:
        taken = {}
        for name, port in wanted.items():
            if not 0 <= port <= 65535:
                raise ServingError(f"--{name}-port {port} is not a port (0 to 65535)")
            listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK if encrypted and name == "http" else bind, port))
                listener.listen(1)
            except OSError as error:
                raise ServingError(_refusal(error, name, port, host)) from None
            taken[name] = int(listener.getsockname()[1])
    return Addresses(str(bind), taken["grpc"], taken["http"], taken["metrics"], encrypted)


def is_open(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _refusal(error: OSError, name: str, port: int, host: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: stop what listens there or choose another --{name}-port"
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges: choose a --{name}-port of 1024 or more"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"host {host!r} is not an address of this machine"
    return f"cannot listen on {host}:{port}: {error.strerror}"
