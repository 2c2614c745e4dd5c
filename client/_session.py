"""What both clients do, written once: handshakes, retries, requests, files to predictions."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from reelkind.core import specs, tensors

from . import _handshake, _wire
from ._address import Address, Tls, check_headers, parse_url, tls_for
from ._errors import (
    ClientError,
    InvalidOption,
    ModelUnavailable,
    RequestTimeout,
    ServerBusy,
    ServerUnavailable,
)
from ._grpc import AsyncGrpc, BlockingGrpc
from ._handshake import ServerInfo
from ._http import AsyncHttp, BlockingHttp
from ._in_memory import Data, decode_data
from ._prediction import Prediction
from ._retry import Patience
from ._shared_memory import Regions
from ._transport import Array, Transport
from ._wire import Threshold
from .decoding import Decoded, Decoder, InlineDecoder

DEFAULT_URL = "127.0.0.1:8001"  # Triton's gRPC port
TIMEOUT_S = 30.0  # one call with its retries; sixteen frames on a busy laptop take two seconds
RETRY_S = 20.0  # a crashed model is back within five seconds, a restarted server within fifteen
PROBE_TIMEOUT_S = 5.0  # liveness and handshake carry no frames
READY_PAUSE_S = 0.25
INFO_AGE_S = 5.0  # a server may get other weights while it runs; asking costs a millisecond
PASSING = (ServerUnavailable, ServerBusy, ModelUnavailable, RequestTimeout)  # of a server that is being started
BYTES_NAME = "<bytes>"

StrPath = str | os.PathLike[str]
Choice = tuple[str | None, str]
"""Group of members and test-time augmentation: arguments of the names in ``core.specs``."""

T = TypeVar("T")


class Session:
    """One connection and what was agreed on it; arguments as those of ``Client``.

    Args:
        blocking: whether its coroutines are for ``finish`` or for an event loop.

    Attributes:
        url: of the server.
        transport: how it is reached; also waits and works for whoever builds on the session.
        decoder: turns files into frames.
    """

    def __init__(
        self,
        url: str,
        *,
        blocking: bool,
        member: str | None,
        tta: str,
        timeout_s: float,
        retry_s: float,
        decoder: Decoder | None,
        headers: Mapping[str, str] | None,
        tls: bool | Tls,
        abstain: bool | float,
        shared_memory: bool,
    ) -> None:
        address = parse_url(url)
        self.url = url
        self.decoder: Decoder = InlineDecoder() if decoder is None else decoder
        self._member, self._tta = member, tta
        self.choose()  # what no model is called is said at once
        self._abstain = _check_abstain(abstain)
        self._timeout_s, self._retry_s = timeout_s, retry_s
        open_it = partial(_open_transport, address, check_headers(headers or {}), tls_for(address, tls))
        self.transport: Transport = open_it(blocking=blocking)
        usable = shared_memory and address.is_local
        self._regions = Regions(self.transport, partial(open_it, blocking=True), usable=usable)
        self._connected = False
        self._infos: dict[str, tuple[float, ServerInfo]] = {}  # with the time of asking
        self._versions: dict[str, str] = {}  # of the models that have answered

    def choose(self, member: str | None = None, tta: str | None = None) -> Choice:
        """What a call wants, else what the client was made for: group of members and test-time augmentation."""
        group, wanted = member or self._member, tta or self._tta
        if group is not None and not group.isprintable():
            raise InvalidOption(f"no member is called {group!r}")
        if wanted not in specs.TTA:
            raise InvalidOption(f"there is no test-time augmentation {wanted!r}, only {', '.join(specs.TTA)}")
        return group, wanted

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
            return await self._patiently(ask, min(self._timeout_s, PROBE_TIMEOUT_S), known=known is not None)
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
        checked = _wire.check_request(inputs, info, self.transport.max_request_bytes)
        names = info.outputs if outputs is None else outputs
        async with self._regions.lend(checked) as loan:
            reply = await self._patiently(partial(loan.infer, model, names), self._timeout_s, known=True)
        if self._versions.get(model) != reply.version:
            self._versions[model] = reply.version
            self._infos.pop(model, None)  # other weights, for all we know, than the handshake told of
        return reply.tensors

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        path: str | None = None,
        times_ms: npt.ArrayLike | None = None,
        decode_ms: float = 0.0,
    ) -> Sequence[Prediction]:
        """Frames or features of several videos to their predictions.

        Args:
            model: of the kind ``classify`` or ``classify_features``.
            inputs: as those of ``request``.
            path: what the predictions are named after.
            times_ms: int64 [T].
            decode_ms: time already spent on the videos.
        """
        started = time.perf_counter()
        self.threshold(await self.info(model))  # what cannot be had is said before anything is sent
        found = await self.request(model, inputs, _handshake.ANSWER_NAMES)
        info = await self.info(model)  # of those who have answered
        size = _wire.size_of(*next(iter(inputs.items())))
        answer = _wire.read_answer(found, size, info)
        infer_ms = (time.perf_counter() - started) * 1000
        timings = {"decode": decode_ms, "infer": infer_ms, "total": decode_ms + infer_ms}
        about = _wire.About(path, _wire.check_times(times_ms, size[1]), timings)
        return _wire.predictions(answer, info, self.threshold(info), about)

    async def check(self, choice: Choice) -> ServerInfo:
        """The handshake, and whether what the client was asked for can be had: one error, not one a file."""
        info = await self.info(specs.classify_name(*choice))
        self.threshold(info)
        return info

    async def classify(self, path: StrPath, choice: Choice) -> Prediction:
        model = specs.classify_name(*choice)
        info = await self.info(model)
        decoded = await self.transport.offload(
            self.decoder.decode, path, num_frames=info.num_frames, size_px=info.frame_size_px
        )
        return await self._classify_decoded(decoded, model, os.fspath(path))

    async def classify_bytes(self, data: Data, choice: Choice, name: str) -> Prediction:
        model = specs.classify_name(*choice)
        info = await self.info(model)
        decoded = await self.transport.offload(decode_data, self.decoder, data, info, name)
        return await self._classify_decoded(decoded, model, name)

    async def classify_frames(
        self, frames: npt.ArrayLike, times_ms: npt.ArrayLike | None, choice: Choice
    ) -> Prediction | Sequence[Prediction]:
        model = specs.classify_name(*choice)
        inputs = {tensors.FRAMES.name: _wire.as_batch(frames)}
        found = await self.predict(model, inputs, times_ms=times_ms)
        return found[0] if np.ndim(frames) == len(tensors.FRAMES.shape) - 1 else found

    def threshold(self, info: ServerInfo) -> Threshold | None:
        """Confidence below which this client gives no label; None if it always does.

        Raises:
            InvalidOption: if it is the server's to tell, and it does not.
        """
        if self._abstain is False:
            return None
        if self._abstain is not True:
            return Threshold(self._abstain, asked_for=True)
        if info.abstain_below is None:
            raise InvalidOption(
                f"the server at {self.url} tells no confidence for {info.model.ensemble!r} below which to abstain: "
                "name one, e.g. abstain=0.8 (on the command line --abstain-below 0.8)"
            )
        return Threshold(info.abstain_below)

    async def is_ready(self) -> bool:
        try:
            return await self.transport.is_ready(specs.classify_name(*self.choose()), PROBE_TIMEOUT_S)
        except ClientError:
            return False

    async def wait_until_ready(self, timeout_s: float) -> None:
        model = specs.classify_name(*self.choose())
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

    def in_flight(self, concurrency: int | None) -> int:
        """Files worked on at once: enough that decoding and inference overlap, few enough for any memory."""
        if concurrency is not None and concurrency < 1:
            raise InvalidOption(f"concurrency must be at least 1, got {concurrency}")
        return concurrency or self.decoder.num_workers + 2

    async def close(self) -> None:
        await self._regions.close()
        await self.transport.close()

    async def _ask_info(self, model: str, timeout_s: float) -> ServerInfo:
        info = _handshake.read_config(await self.transport.config(model, timeout_s), self.url)
        self._infos[model] = time.monotonic(), info
        return info

    async def _classify_decoded(self, decoded: Decoded, model: str, path: str) -> Prediction:
        clip = decoded.clip
        inputs = {tensors.FRAMES.name: clip.frames[None]}
        (found,) = await self.predict(model, inputs, path=path, times_ms=clip.times_ms, decode_ms=decoded.decode_ms)
        return found

    async def _patiently(self, attempt: Callable[[float], Awaitable[T]], timeout_s: float, *, known: bool) -> T:
        """Repeat what fails for a passing reason; ``known`` says whether the model has been there before."""
        patience = Patience(timeout_s, self._retry_s)
        while True:
            remaining_s = patience.remaining_s()
            try:
                result = await attempt(remaining_s)
            except ClientError as error:
                connected = known if isinstance(error, ModelUnavailable) else self._connected
                pause_s = patience.pause_s(error, connected=connected)
                if pause_s is None:
                    if isinstance(error, ServerUnavailable):
                        self._connected = False  # gone: the next call need not wait for it as long
                    raise
            else:
                self._connected = True
                return result
            await self.transport.sleep(pause_s)


def _open_transport(address: Address, headers: dict[str, str], tls: Tls | None, *, blocking: bool) -> Transport:
    if address.scheme == "grpc":
        return BlockingGrpc(address, headers, tls) if blocking else AsyncGrpc(address, headers, tls)
    return BlockingHttp(address, headers, tls) if blocking else AsyncHttp(address, headers, tls)


def _check_abstain(abstain: bool | float) -> bool | float:
    if isinstance(abstain, bool) or (isinstance(abstain, int | float) and 0 <= abstain <= 1):
        return abstain
    raise InvalidOption(f"abstain must be True, False or a confidence from 0 to 1, got {abstain!r}")
