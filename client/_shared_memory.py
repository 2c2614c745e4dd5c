"""Frames to a server on this machine without the wire, through regions of POSIX shared memory.

Only ever a shortcut: whatever goes wrong with a region, the same frames go by the wire.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.utils import InferenceServerException

from . import _calls, _wire

MIN_BYTES = 1 << 16  # smaller requests cost as little by the wire
TIMEOUT_S = 1.0  # of what takes a millisecond
PAUSE_S = 0.02

_HOSTS = ("localhost", "[::1]")
_FOLDER = Path("/dev/shm")

logger = logging.getLogger(__name__)


class _Region:
    """Memory both sides can see; Triton calls it by its name once it is registered."""

    def __init__(self, num_bytes: int) -> None:
        self.registered = False
        self._memory = shared_memory.SharedMemory(f"reelkind-{uuid.uuid4().hex}", create=True, size=num_bytes)
        self.name, self.num_bytes = self._memory.name, num_bytes
        try:
            with Path(_FOLDER, self.name).open("r+b") as file:  # else a full /dev/shm is a SIGBUS at the first write
                os.posix_fallocate(file.fileno(), 0, num_bytes)
        except BaseException:
            self.free()
            raise

    def fill(self, batch: _wire.Frames) -> None:
        np.copyto(np.ndarray(batch.shape, np.uint8, self._memory.buf), batch)

    def free(self) -> None:
        with suppress(OSError, BufferError):
            self._memory.close()
        with suppress(OSError):
            self._memory.unlink()


class Regions:
    """The regions of one client, each lent to one call at a time; threads may share it.

    Args:
        client: registers them and sends the requests.
        url: of the server; regions are lent only if it is on this machine.
        headers: sent with every request.
    """

    def __init__(self, client: InferenceServerClient, url: str, headers: dict[str, str]) -> None:
        self._triton, self._url, self._headers = client, url, headers
        host = url.rpartition(":")[0]
        self._usable = host.startswith("127.") or host in _HOSTS
        self._idle: list[_Region] = []
        self._stale: list[_Region] = []  # freed, but the server may still be reading them
        self._lock = threading.Lock()
        everything = (client, headers, self._idle, self._stale, os.getpid())
        self._finalizer = weakref.finalize(self, _abandon, *everything)  # also for a client nobody closes

    @contextmanager
    def lend(self, call: _calls.Call) -> Iterator[Loan]:
        """A region with the frames of ``call`` for as long as it lasts."""
        region = self._take(call.batch.nbytes)
        loan = Loan(self, self._triton, call, region)
        try:
            if region is not None:
                region.fill(call.batch)
            yield loan
        finally:
            if region is not None:
                self._give_back(region, reusable=loan.unanswered == 0)

    def stop(self, reason: object) -> None:
        """From now on everything goes by the wire."""
        with self._lock:
            if self._usable:
                logger.debug("frames go by the wire: %s", reason)
            self._usable = False

    def close(self) -> None:
        """Free all regions; those lent are freed as they come back."""
        self.stop("the client is closed")
        with self._lock:
            self._finalizer()

    def _take(self, num_bytes: int) -> _Region | None:
        with self._lock:
            if not self._usable or num_bytes < MIN_BYTES:
                return None
            found = self._idle.pop() if self._idle else None
        if found is not None and found.num_bytes >= num_bytes:
            return found
        if found is not None:
            self._drop(found)
        try:
            return _Region(num_bytes)
        except (OSError, AttributeError) as error:  # full, forbidden, or not Linux
            self.stop(error)
            return None

    def _give_back(self, region: _Region, *, reusable: bool) -> None:
        with self._lock:
            if reusable and self._usable:
                self._idle.append(region)
                return
        self._drop(region)

    def _drop(self, region: _Region) -> None:
        region.free()
        if not self._finalizer.alive:  # so is the channel: the call was cancelled, and the server is letting go of it
            with InferenceServerClient(self._url, channel_args=_wire.channel_args(self._url)) as fresh:
                _forget(fresh, self._headers, [region], TIMEOUT_S)
            return
        with self._lock:
            stale = [*self._stale, region]
            self._stale.clear()
        _forget(self._triton, self._headers, stale, wait_s=0)
        with self._lock:
            self._stale += stale


class Loan:
    """One call's use of a region, if it has one.

    Attributes:
        unanswered: attempts that the server may still be reading the region for.
    """

    def __init__(
        self, regions: Regions, client: InferenceServerClient, call: _calls.Call, region: _Region | None
    ) -> None:
        self.unanswered = 0
        self._regions, self._triton, self._call, self._region = regions, client, call, region

    def infer(self, *, headers: dict[str, str], client_timeout: float, **arguments: Any) -> InferResult:
        """As tritonclient's ``infer``, of the frames of this call."""
        deadline = time.monotonic() + client_timeout
        for _ in range(2):  # a restarted server knows no regions
            if self._region is None or not self._register(self._region, headers, client_timeout):
                break
            request = _wire.request(self._call.batch, self._region.name)
            self.unanswered += 1
            try:
                result = self._triton.infer(headers=headers, client_timeout=client_timeout, **request, **arguments)
            except InferenceServerException as error:
                unknown = self._region.name in (error.message() or "")
                if not unknown and "INVALID_ARGUMENT" not in (error.status() or ""):
                    raise
                self.unanswered -= 1  # refused before it was read
                if not unknown:  # whether of the region or of the frames, the wire will show
                    break
                self._region.registered = False
            else:
                self.unanswered -= 1
                return result
        else:
            self._regions.stop("the server does not keep regions")
        remaining_s = max(deadline - time.monotonic(), 0.001)
        return self._triton.infer(headers=headers, client_timeout=remaining_s, **self._call.request, **arguments)

    def _register(self, region: _Region, headers: dict[str, str], timeout_s: float) -> bool:
        if region.registered:
            return True
        try:
            self._triton.register_system_shared_memory(
                region.name,
                f"/{region.name}",
                region.num_bytes,
                headers=headers,
                client_timeout=min(timeout_s, TIMEOUT_S),
            )
        except InferenceServerException as error:
            if "UNAVAILABLE" not in (error.status() or ""):  # being restarted is no refusal
                self._regions.stop(error)
                self._region = None
                region.registered = "DEADLINE" in (error.status() or "")  # for all we know
            return False
        region.registered = True
        return True


def _forget(client: InferenceServerClient, headers: dict[str, str], stale: list[_Region], wait_s: float) -> None:
    """Have the server unmap freed regions; those it is still reading stay in ``stale``."""
    deadline = time.monotonic() + wait_s
    stale[:] = [region for region in stale if region.registered]
    while stale:
        try:
            client.unregister_system_shared_memory(stale[-1].name, headers=headers, client_timeout=TIMEOUT_S)
            stale.pop()
        except (InferenceServerException, ValueError) as error:  # ValueError is grpc's for a closed channel
            if "in use" not in str(error) or time.monotonic() > deadline:
                logger.debug("%d regions stay registered: %s", len(stale), error)
                return
            time.sleep(PAUSE_S)


def _abandon(
    client: InferenceServerClient, headers: dict[str, str], idle: list[_Region], stale: list[_Region], owner: int
) -> None:
    if os.getpid() != owner:  # a fork, which inherited them
        return
    while idle:
        idle[-1].free()
        stale.append(idle.pop())
    _forget(client, headers, stale, TIMEOUT_S)
