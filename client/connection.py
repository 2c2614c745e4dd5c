"""One connection to a server's models: handshakes, limits, shared memory, retries; tensors in, tensors out."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from .answers import handshake, wire
from .answers.handshake import ServerInfo
from .options import ClientOptions
from .transport.address import Address, Tls, check_headers, parse_target, tls_for
from .transport.errors import (
    ClientError,
    ModelUnavailable,
    RequestTimeout,
    ServerBusy,
    ServerUnavailable,
)
from .transport.grpc_transport import AsyncGrpc, BlockingGrpc
from .transport.http_transport import AsyncHttp, BlockingHttp
from .transport.pool import open_pool
from .transport.retry import Budget, Patience, Retry
from .transport.shared_memory import Loan, Regions
from .transport.transport import Array, Reply, Transport

PROBE_TIMEOUT_S = 5.0  # liveness and handshake carry no frames
READY_PAUSE_S = 0.25
_FORGETTING = 0.2  # share of the latest answer in the mean time of answers
_SOON_S = 1.0  # when a refused request may come again, where no answer has told how long the queue is
INFO_AGE_S = 5.0  # a server may get other weights while it runs; asking costs a millisecond
PASSING = (ServerUnavailable, ServerBusy, ModelUnavailable, RequestTimeout)  # of a server that is being started

T = TypeVar("T")


class Connection:
    """What both clients do with a server's models, written once.

    Args:
        url: of the server or servers.
        options: those of the client.
        blocking: whether its coroutines are for ``finish`` or for an event loop.

    Attributes:
        url: of the server or servers.
        transport: how it is reached; also waits and works for whoever builds on the connection.
    """

    def __init__(self, url: str, options: ClientOptions, *, blocking: bool) -> None:
        target = parse_target(url)
        address = target.first
        self.url = url
        self._timeout_s, self._retry = options.timeout_s, Retry.of(options.retry_s)
        self._budget, self._answer_s = Budget(self._retry.budget), 0.0
        headers, tls = check_headers(options.headers or {}), tls_for(address, options.tls)
        connect = partial(_open_transport, headers=headers, tls=tls)
        self.transport: Transport = (
            connect(address, blocking=blocking) if target.is_single else open_pool(target, connect, blocking=blocking)
        )
        usable = options.shared_memory and target.is_single and address.is_local
        self._regions = Regions(self.transport, partial(connect, address, blocking=True), usable=usable)
        self._connected, self._answered = False, -math.inf  # the time of the latest answer
        self._infos: dict[str, tuple[float, ServerInfo]] = {}  # with the time of asking
        self._versions: dict[str, str] = {}  # of the models that have answered

    async def info(self, model: str, *, fresh: bool = False) -> ServerInfo:
        """The handshake of one model.

        Args:
            model: its name on the server.
            fresh: whether to ask again, even if that was done less than ``INFO_AGE_S`` ago.

        Raises:
            ClientError: if the server does not answer, lacks the model, or speaks another contract.
        """
        asked, known = self._infos.get(model, (0.0, None))
        if known is not None and not fresh:
            if time.monotonic() - asked < INFO_AGE_S:
                return known
            try:
                return await self._ask_info(model, min(self._timeout_s, PROBE_TIMEOUT_S))
            except PASSING:
                self._infos[model] = time.monotonic(), known  # a server that hangs is not asked with every call
                return known  # whoever has something to send will wait for it to come back, or say that it does not
        ask = partial(self._ask_info, model)
        try:
            return await self._patiently(ask, known=known is not None, attempt_s=PROBE_TIMEOUT_S)
        except ModelUnavailable as error:
            if error.status != "NOT_FOUND":
                raise
            raise ModelUnavailable(
                f"the server at {self.url} has no model {model!r}: ask for another member, or serve that one's bundle "
                "(`reelkind serve --bundle DIR`, several for an ensemble)",
                error.status,
            ) from error

    async def request(
        self, model: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Send tensors to any model of ours and wait for others: limits, shared memory, retries, deadline.

        Args:
            model: its name on the server, see ``core.specs``.
            inputs: by name, with the types and shapes of ``ServerInfo.inputs``.
            outputs: names of those wanted; by default all.

        Raises:
            ClientError: if it cannot be sent or is not answered.
        """
        info = await self.info(model)
        checked = wire.check_request(inputs, info, self.transport.max_request_bytes)
        names = info.outputs if outputs is None else outputs
        async with self._regions.lend(checked) as loan:
            reply = await self._patiently(partial(self._infer, loan, model, names), known=True)
        if self._versions.get(model) != reply.version:
            self._versions[model] = reply.version
            self._infos.pop(model, None)  # other weights, for all we know, than the handshake told of
        return reply.tensors

    async def is_ready(self, model: str) -> bool:
        try:
            return await self.transport.is_ready(model, PROBE_TIMEOUT_S)
        except ClientError:
            return False

    async def wait_until_ready(self, model: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            said = ""
            try:
                if await self.transport.is_ready(model, PROBE_TIMEOUT_S):
                    return
            except PASSING as error:
                said = f": {error}"
            if time.monotonic() > deadline:
                raise ServerUnavailable(f"{model!r} at {self.url} is not ready after {timeout_s:g} s{said}")
            await self.transport.sleep(READY_PAUSE_S)

    async def close(self) -> None:
        try:
            await self._regions.close()
        finally:
            await self.transport.close()

    async def _ask_info(self, model: str, timeout_s: float) -> ServerInfo:
        info = handshake.read_config(await self.transport.config(model, timeout_s), self.url)
        self._infos[model] = time.monotonic(), info
        return info

    async def _infer(self, loan: Loan, model: str, outputs: Sequence[str], timeout_s: float) -> Reply:
        started = time.monotonic()
        reply = await loan.infer(model, outputs, timeout_s)
        share = _FORGETTING if self._answer_s else 1.0  # there is only the first one yet
        self._answer_s += share * (time.monotonic() - started - self._answer_s)
        return reply

    async def _patiently(
        self, attempt: Callable[[float], Awaitable[T]], *, known: bool, attempt_s: float = math.inf
    ) -> T:
        """Repeat what fails for a passing reason.

        Args:
            attempt: given the seconds that it may take.
            known: whether the model has been there before.
            attempt_s: the most one attempt may take.
        """
        patience = Patience(self._timeout_s, self._retry, self._budget)
        while True:
            remaining_s = patience.remaining_s()
            try:
                result = await attempt(min(remaining_s, attempt_s))
            except ClientError as error:
                connected = known if isinstance(error, ModelUnavailable) else self._connected
                pause_s = patience.pause_s(error, connected=connected)
                if pause_s is None:
                    if isinstance(error, ServerUnavailable) and self._answered < patience.failed_first:
                        self._connected = False  # gone, for all calls: the next ones need not wait for it as long
                    if isinstance(error, ServerBusy):  # what was taken lately waited as long as the queue was
                        raise error.with_hint(max(self._answer_s, _SOON_S)) from error.__cause__
                    raise
            else:
                self._connected, self._answered = True, time.monotonic()
                return result
            await self.transport.sleep(pause_s)


def _open_transport(address: Address, *, headers: dict[str, str], tls: Tls | None, blocking: bool) -> Transport:
    if address.scheme == "grpc":
        return BlockingGrpc(address, headers, tls) if blocking else AsyncGrpc(address, headers, tls)
    return BlockingHttp(address, headers, tls) if blocking else AsyncHttp(address, headers, tls)
