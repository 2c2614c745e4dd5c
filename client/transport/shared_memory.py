"""Tensors to a server on this machine without the wire, through regions of POSIX shared memory.

Only ever a shortcut: whatever goes wrong with a region, the same tensors go by the wire.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from multiprocessing import shared_memory
from pathlib import Path
from typing import IO

import numpy as np

from .errors import AccessDenied, ClientError
from .transport import Array, Reply, Transport, finish, offsets

MIN_BYTES = 1 << 16  # smaller requests cost as little by the wire
TIMEOUT_S = 1.0  # of what takes a millisecond
PAUSE_S = 0.02
ABANDONED_S = 60.0
PREFIX = "reelkind-"

_FOLDER = Path("/dev/shm")

logger = logging.getLogger(__name__)


class _Region:
    """Memory both sides can see; Triton calls it by its name once it is registered."""

    def __init__(self, num_bytes: int) -> None:
        self.registered = False
        name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex}"
        self._memory = shared_memory.SharedMemory(name, create=True, size=num_bytes)
        self.name, self.num_bytes = self._memory.name, num_bytes
        try:
            self._held = Path(_FOLDER, self.name).open("r+b")  # noqa: SIM115 - as long as the region lasts
            _lock(self._held, "LOCK_SH")  # until this process ends, see ``free_abandoned``
            os.posix_fallocate(self._held.fileno(), 0, num_bytes)  # else a full one is a SIGBUS at the first write
        except BaseException:
            self.free()
            raise

    def fill(self, inputs: Mapping[str, Array]) -> None:
        starts, _ = offsets(inputs)
        for name, array in inputs.items():
            np.copyto(np.ndarray(array.shape, array.dtype, self._memory.buf, starts[name]), array)

    def free(self) -> None:
        with suppress(OSError, BufferError):
            self._memory.close()
        with suppress(OSError):
            self._memory.unlink()
        with suppress(AttributeError):
            self._held.close()


def free_abandoned() -> None:
    """Free the regions of clients that were killed, which nobody holds any more."""
    for path in _FOLDER.glob(f"{PREFIX}*"):
        with suppress(OSError, ImportError):
            if time.time() - path.stat().st_mtime < ABANDONED_S:  # perhaps just being made
                continue
            with path.open("r+b") as file:
                _lock(file, "LOCK_EX")
                path.unlink()


def _lock(file: IO[bytes], kind: str) -> None:
    """Hold a file by ``fcntl.LOCK_SH`` or ``LOCK_EX`` until it is closed; an OSError if somebody else does."""
    import fcntl  # not on Windows, which has no such regions either

    fcntl.flock(file, getattr(fcntl, kind) | fcntl.LOCK_NB)


class Regions:
    """The regions of one client, each lent to one call at a time; threads may share it.

    Args:
        transport: registers them and sends the requests.
        reopen: makes a blocking transport to the same server, for what is left when this one is closed.
        usable: whether the server is on this machine.
    """

    def __init__(self, transport: Transport, reopen: Callable[[], Transport], *, usable: bool) -> None:
        self._transport, self._reopen = transport, reopen
        self._usable = usable
        if usable:
            free_abandoned()
        self._closed = False
        self._idle: list[_Region] = []
        self._stale: list[_Region] = []  # freed, but the server may still be reading them
        self._lock = threading.Lock()
        # For a client nobody closes, and for what closing has left.
        weakref.finalize(self, _abandon, reopen, self._idle, self._stale, os.getpid())

    @asynccontextmanager
    async def lend(self, inputs: Mapping[str, Array]) -> AsyncIterator[Loan]:
        """A region with the tensors ``inputs`` for as long as it lasts."""
        region = self._take(offsets(inputs)[1])
        loan = Loan(self, self._transport, inputs, region)
        try:
            if region is not None:
                region.fill(inputs)
            yield loan
        finally:
            if region is not None:
                await self._give_back(region, reusable=loan.unanswered == 0)

    def stop(self, reason: object) -> None:
        """From now on everything goes by the wire."""
        with self._lock:
            if self._usable:
                logger.debug("tensors go by the wire: %s", reason)
            self._usable = False

    async def close(self) -> None:
        """Free all regions; those lent are freed as they come back."""
        self.stop("the client is closed")
        with self._lock:
            self._closed = True
            for region in self._idle:
                region.free()
            self._stale += self._idle
            self._idle.clear()
        await self._forget_stale(TIMEOUT_S)

    def _take(self, num_bytes: int) -> _Region | None:
        with self._lock:
            if not self._usable or num_bytes < MIN_BYTES:
                return None
            found = self._idle.pop() if self._idle else None
            if found is not None and found.num_bytes < num_bytes:
                found.free()
                self._stale.append(found)
                found = None
        try:
            return found or _Region(num_bytes)
        except (OSError, AttributeError, ImportError) as error:  # full, forbidden, or not Linux
            self.stop(error)
            return None

    async def _give_back(self, region: _Region, *, reusable: bool) -> None:
        with self._lock:
            if reusable and self._usable:
                self._idle.append(region)
                if not self._stale:
                    return
            else:
                region.free()
                self._stale.append(region)
        if not self._closed:
            await self._forget_stale(wait_s=0)
        else:  # nor is the connection open: the call was cancelled, and the server is letting go of the region
            await self._transport.offload(_forget_anew, self._reopen, self._take_stale())

    async def _forget_stale(self, wait_s: float) -> None:
        stale = self._take_stale()
        try:
            await _forget(self._transport, stale, wait_s)
        finally:  # cancelled or not: what is left is for the next time, at last for the finalizer
            with self._lock:
                self._stale += stale

    def _take_stale(self) -> list[_Region]:
        with self._lock:
            taken = list(self._stale)
            self._stale.clear()
        return taken


class Loan:
    """One call's use of a region, if it has one.

    Attributes:
        unanswered: attempts that the server may still be reading the region for.
    """

    def __init__(
        self, regions: Regions, transport: Transport, inputs: Mapping[str, Array], region: _Region | None
    ) -> None:
        self.unanswered = 0
        self._regions, self._transport, self._inputs, self._region = regions, transport, inputs, region

    async def infer(self, model: str, outputs: Sequence[str], timeout_s: float) -> Reply:
        """As ``Transport.infer``, of the tensors of this call."""
        deadline = time.monotonic() + timeout_s
        for _ in range(2):  # a restarted server knows no regions
            if self._region is None or not await self._register(self._region, timeout_s):
                break
            self.unanswered += 1
            try:
                answer = await self._transport.infer(model, self._inputs, outputs, timeout_s, self._region.name)
            except ClientError as error:
                unknown = self._region.name in str(error)
                if not unknown and error.status != "INVALID_ARGUMENT":
                    raise
                self.unanswered -= 1  # refused before it was read
                if not unknown:  # whether of the region or of the tensors, the wire will show
                    break
                self._region.registered = False
            else:
                self.unanswered -= 1
                return answer
        else:
            self._regions.stop("the server does not keep regions")
        remaining_s = max(deadline - time.monotonic(), 0.001)
        return await self._transport.infer(model, self._inputs, outputs, remaining_s)

    async def _register(self, region: _Region, timeout_s: float) -> bool:
        if region.registered:
            return True
        region.registered = True  # for all we know, should this be interrupted
        try:
            await self._transport.register(region.name, region.num_bytes, min(timeout_s, TIMEOUT_S))
        except ClientError as error:
            region.registered = error.status == "DEADLINE_EXCEEDED"  # for all we know
            if error.status != "UNAVAILABLE" or isinstance(error, AccessDenied):  # being restarted is no refusal
                self._regions.stop(error)
                self._region = None
            return False
        except BaseException:
            self.unanswered += 1  # so that nobody is lent a region in this state
            raise
        return True


async def _forget(transport: Transport, stale: list[_Region], wait_s: float) -> None:
    """Have the server unmap freed regions; those it is still reading stay in ``stale``."""
    deadline = time.monotonic() + wait_s
    stale[:] = [region for region in stale if region.registered]
    while stale:
        try:
            await transport.unregister(stale[-1].name, TIMEOUT_S)
            stale.pop()
        except ClientError as error:
            if "in use" not in str(error) or time.monotonic() > deadline:
                logger.debug("%d regions stay registered: %s", len(stale), error)
                return
            await transport.sleep(PAUSE_S)


def _forget_anew(reopen: Callable[[], Transport], stale: list[_Region]) -> None:
    if any(region.registered for region in stale):
        transport = reopen()
        finish(_forget(transport, stale, TIMEOUT_S))
        finish(transport.close())


def _abandon(reopen: Callable[[], Transport], idle: list[_Region], stale: list[_Region], owner: int) -> None:
    if os.getpid() != owner:  # a fork, which inherited them
        return
    while idle:
        idle[-1].free()
        stale.append(idle.pop())
    _forget_anew(reopen, stale)
