"""Several servers as one transport: each request goes to the one whose turn it is, and to another if that fails.

Inference changes nothing on a server, so what may have been computed already can be asked again elsewhere.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from .address import Address, Target
from .errors import (
    ClientError,
    InvalidOption,
    ModelUnavailable,
    RequestCancelled,
    RequestTimeout,
    ServerBusy,
    ServerUnavailable,
    TlsFailed,
)
from .grpc_transport import BlockingGrpc
from .rotation import Rotation
from .transport import Array, Blocking, Looping, ModelConfig, Reply, Transport, Waiting

LOOKUP_AGE_S = 5.0  # a name is looked up again after; servers of Kubernetes come and go within seconds
PROBE_TIMEOUT_S = 1.0
ATTEMPT_SHARE = 0.5  # of the time left that one server may take while another could be asked

HANG_S = 1.0  # who takes longer hangs; a deadline shorter than this is the caller's business

ELSEWHERE = (ServerUnavailable, ModelUnavailable, RequestTimeout, TlsFailed, ServerBusy)
"""What another server may well do."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Pool(Waiting):
    """Both kinds of pool, which differ in how they wait.

    Args:
        target: where the servers are.
        connect: makes the transport of one of them.
    """

    def __init__(self, target: Target, connect: Callable[[Address], Transport]) -> None:
        self._target, self._connect = target, connect
        self._lock = threading.Lock()
        self._servers: dict[Address, Transport] = {address: connect(address) for address in target.addresses}
        sizes = (server.max_request_bytes for server in self._servers.values())
        self.max_request_bytes = min(sizes, default=BlockingGrpc.max_request_bytes)  # names are of gRPC servers
        self._rotation = Rotation(list(self._servers))
        self._in_use: dict[Transport, int] = {}
        self._leaving: list[Transport] = []
        self._looked_up = float("-inf")
        self._closed = False

    async def config(self, model: str, timeout_s: float) -> ModelConfig:
        return await self._ask(model, timeout_s, lambda server, left_s: server.config(model, left_s))

    async def is_ready(self, model: str, timeout_s: float) -> bool:
        return await self._ask(model, timeout_s, lambda server, left_s: self._ready(server, model, left_s))

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
        timeout_s: float,
        region: str | None = None,
    ) -> Reply:
        assert region is None, "regions are known to one server only"
        return await self._ask(model, timeout_s, lambda server, left_s: server.infer(model, inputs, outputs, left_s))

    async def register(self, region: str, num_bytes: int, timeout_s: float) -> None:
        raise InvalidOption("shared memory is for one server")

    async def unregister(self, region: str, timeout_s: float) -> None:
        raise InvalidOption("shared memory is for one server")

    async def close(self) -> None:
        with self._lock:
            servers, self._servers = [*self._servers.values(), *self._leaving], {}
            self._leaving.clear()
            self._rotation.update(())
            self._closed = True
        for server in servers:
            await server.close()

    async def _ask(self, model: str, timeout_s: float, call: Callable[[Transport, float], Awaitable[T]]) -> T:
        """One server's answer; each is asked once at most, and of several errors the last is raised."""
        deadline = time.monotonic() + timeout_s
        await self._look_up()
        await self._probe(model)
        tried: list[Address] = []
        while True:
            address, server, spare = self._take(tried)
            asked = time.monotonic()
            left_s = max(deadline - asked, 0.001) * (ATTEMPT_SHARE if spare else 1)
            try:
                answer = await call(server, left_s)
            except ELSEWHERE as error:
                tried.append(address)
                if _is_gone(error, left_s):
                    self._eject(address, asked, error)
                if not self._servers.keys() - set(tried) or time.monotonic() >= deadline:
                    raise
            else:
                with self._lock:
                    self._rotation.answered(address, asked)
                return answer
            finally:
                await self._give_back(server)

    def _take(self, tried: Sequence[Address]) -> tuple[Address, Transport, bool]:
        """Whose turn it is, and whether another could be asked if that one hangs."""
        with self._lock:
            address = self._rotation.next(tried)
            if address is None:
                if self._closed:
                    raise RequestCancelled(f"the client of {self._target.url} is closed")
                raise ServerUnavailable(f"{self._target.url} has no server now", "UNAVAILABLE")
            server = self._servers[address]
            self._in_use[server] = self._in_use.get(server, 0) + 1
            return address, server, bool(set(self._rotation.in_turn) - {address, *tried})

    async def _give_back(self, server: Transport) -> None:
        with self._lock:
            self._in_use[server] -= 1
            gone = not self._in_use[server] and server in self._leaving
            if not self._in_use[server]:
                del self._in_use[server]
            if gone:
                self._leaving.remove(server)
        if gone:
            await server.close()

    def _eject(self, address: Address, asked: float, reason: ClientError) -> None:
        with self._lock:
            was_in_turn = address in self._rotation.in_turn
            self._rotation.failed(address, asked)
            is_out = was_in_turn and address not in self._rotation.in_turn
        if is_out:
            logger.warning("%s is left out for now: %s", address.url, reason)

    async def _probe(self, model: str) -> None:
        """Ask one ejected server, if its time has come, whether it is back."""
        with self._lock:
            address = self._rotation.to_probe()
            server = None if address is None else self._servers[address]
        if address is None or server is None:
            return
        ready, asked = False, time.monotonic()
        try:
            ready = await server.is_ready(model, PROBE_TIMEOUT_S)
        except ClientError as error:
            logger.debug("%s is still away: %s", address.url, error)
        finally:
            with self._lock:
                (self._rotation.answered if ready else self._rotation.failed)(address, asked)
        if ready:
            logger.warning("%s is back", address.url)

    async def _ready(self, server: Transport, model: str, timeout_s: float) -> bool:
        if not await server.is_ready(model, timeout_s):
            raise ModelUnavailable(f"{model!r} is not ready at {self._target.url}", "UNAVAILABLE")
        return True

    async def _look_up(self) -> None:
        """The servers behind the name, at most every ``LOOKUP_AGE_S``; while it has none, those known before."""
        lookup, now = self._target.lookup, time.monotonic()
        with self._lock:
            if lookup is None or self._closed or (self._servers and now - self._looked_up < LOOKUP_AGE_S):
                return
            self._looked_up = now
        try:
            found = await self.offload(_resolve, lookup)
        except OSError as error:
            logger.debug("%s: %s", self._target.url, error)
            if not self._servers:
                raise ServerUnavailable(
                    f"{lookup.host} has no address ({error.strerror}): is that the servers' name?", "UNAVAILABLE"
                ) from error
            return
        with self._lock:
            left = [server for address, server in self._servers.items() if address not in found]
            self._servers = {address: self._servers.get(address) or self._connect(address) for address in found}
            self._rotation.update(found)
            self._leaving += [server for server in left if server in self._in_use]
        for server in left:
            if server not in self._leaving:
                await server.close()


class BlockingPool(_Pool, Blocking):
    """Waits in the calling thread; threads may share it."""


class AsyncPool(_Pool, Looping):
    """Waits on the event loop."""


def open_pool(target: Target, connect: Callable[..., Transport], *, blocking: bool) -> Transport:
    """A transport to all servers of a target; ``connect`` makes that of an address."""
    pool = BlockingPool if blocking else AsyncPool
    return pool(target, partial(connect, blocking=blocking))


def _is_gone(error: ClientError, allowed_s: float) -> bool:
    """Whether the server is to be left out for a while, and not only to be spared this request."""
    if isinstance(error, RequestTimeout):
        return allowed_s >= HANG_S
    return not isinstance(error, ServerBusy) and error.status != "NOT_FOUND"


def _resolve(lookup: Address) -> list[Address]:
    found = socket.getaddrinfo(lookup.host.strip("[]"), lookup.port, type=socket.SOCK_STREAM)
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [
        replace(lookup, url=f"{host}:{lookup.port}", host=host, name=lookup.host)
        for host in (f"[{host}]" if ":" in host else host for host in hosts)
    ]
