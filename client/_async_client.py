"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy.typing as npt
from grpc.aio import UsageError
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException

from reelkind.core.errors import ReelkindError

from . import _calls, _wire
from ._errors import ClientError, RequestCancelled, ServerUnavailable, from_triton
from ._prediction import Failure, Prediction
from ._retry import Patience
from .decoding import Decoder, InlineDecoder

T = TypeVar("T")


class AsyncClient:
    """``Client`` for asyncio; arguments, answers and errors are the same. Make it inside a running event loop.

    Frames always go by the wire, so there is no ``shared_memory``.
    """

    def __init__(
        self,
        url: str = _calls.DEFAULT_URL,
        *,
        ensemble: str = _calls.DEFAULT_ENSEMBLE_NAME,
        timeout_s: float = _calls.TIMEOUT_S,
        retry_s: float = _calls.RETRY_S,
        decoder: Decoder | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url = _wire.check_url(url)
        self.ensemble = _wire.check_model_name(ensemble)
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._decoder: Decoder = InlineDecoder() if decoder is None else decoder
        self._headers = dict(headers or {})
        self._triton = triton.InferenceServerClient(self.url, channel_args=_wire.channel_args(self.url))
        self._info: _wire.ServerInfo | None = None
        self._connected = False
        self._lock = asyncio.Lock()

    async def server_info(self) -> _wire.ServerInfo:
        """As ``Client.server_info``."""
        async with self._lock:
            if self._info is None:
                timeout_s = min(self._timeout_s, _calls.PROBE_TIMEOUT_S)
                response = await self._call(self._triton.get_model_config, timeout_s, model_name=self.ensemble)
                self._info = _wire.read_config(response.config, self.url)
            return self._info

    async def is_ready(self) -> bool:
        """As ``Client.is_ready``."""
        probe = {"headers": self._headers, "client_timeout": _calls.PROBE_TIMEOUT_S}
        try:
            ready = await self._triton.is_server_ready(**probe)
            return bool(ready and await self._triton.is_model_ready(self.ensemble, **probe))
        except InferenceServerException:
            return False

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """As ``Client.wait_until_ready``."""
        deadline = time.monotonic() + timeout_s
        while not await self.is_ready():
            if time.monotonic() > deadline:
                raise ServerUnavailable(f"{self.ensemble!r} at {self.url} is not ready after {timeout_s:g} s")
            await asyncio.sleep(_calls.READY_PAUSE_S)

    async def classify(self, path: _calls.StrPath) -> Prediction:
        """As ``Client.classify``; decoding does not block the event loop."""
        info = await self.server_info()
        decoded = await asyncio.to_thread(
            self._decoder.decode, path, num_frames=info.num_frames, size_px=info.frame_size_px
        )
        return cast(Prediction, await self._infer(_calls.Call.of(decoded, info, os.fspath(path))))

    async def classify_bytes(self, data: _calls.Data, name: str = _calls.BYTES_NAME) -> Prediction:
        """As ``Client.classify_bytes``."""
        info = await self.server_info()
        decoded = await asyncio.to_thread(_calls.decode_data, self._decoder, data, info, name)
        return cast(Prediction, await self._infer(_calls.Call.of(decoded, info, name)))

    async def classify_frames(
        self, frames: npt.ArrayLike, times_ms: npt.ArrayLike | None = None
    ) -> Prediction | Sequence[Prediction]:
        """As ``Client.classify_frames``."""
        return await self._infer(_calls.Call(frames, await self.server_info(), times_ms=times_ms))

    async def classify_many(
        self, paths: Iterable[_calls.StrPath], *, concurrency: int | None = None, ordered: bool = True
    ) -> AsyncIterator[Prediction | Failure]:
        """As ``Client.classify_many``."""
        limit = _calls.in_flight(self._decoder, concurrency)
        await self.server_info()  # a wrong address is one error, not one a file
        places = asyncio.Semaphore(limit)
        waiting: deque[asyncio.Task[Prediction | Failure]] = deque()
        try:
            for path in paths:
                waiting.append(asyncio.create_task(self._attempt(path, places)))
                while len(waiting) >= 2 * limit:  # finished ones may queue behind a slow one
                    yield await _next(waiting, ordered)
            while waiting:
                yield await _next(waiting, ordered)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """Close the connection."""
        await self._triton.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _attempt(self, path: _calls.StrPath, places: asyncio.Semaphore) -> Prediction | Failure:
        async with places:
            try:
                return await self.classify(path)
            except ReelkindError as error:
                return Failure(os.fspath(path), error)

    async def _infer(self, call: _calls.Call) -> Prediction | Sequence[Prediction]:
        result = await self._call(self._triton.infer, self._timeout_s, model_name=self.ensemble, **call.request)
        return call.finish(result)

    async def _call(self, method: Callable[..., Awaitable[T]], timeout_s: float, **arguments: Any) -> T:
        patience = Patience(timeout_s, self._retry_s)
        while True:
            remaining_s = patience.remaining_s()
            try:
                result = await method(headers=self._headers, client_timeout=remaining_s, **arguments)
            except InferenceServerException as error:
                failure: ClientError = from_triton(error, self.url)
            except UsageError as error:  # the channel was closed
                raise RequestCancelled(f"the client of {self.url} is closed") from error
            else:
                self._connected = True
                return result
            pause_s = patience.pause_s(failure, connected=self._connected)
            if pause_s is None:
                if isinstance(failure, ServerUnavailable):
                    self._connected = False
                raise failure
            await asyncio.sleep(pause_s)


async def _next(waiting: deque[asyncio.Task[Prediction | Failure]], ordered: bool) -> Prediction | Failure:
    if ordered:
        first = waiting[0]
    else:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        first = next(iter(done))
    answer = await first  # stays in ``waiting`` until it is there, so that it is cancelled with the rest
    waiting.remove(first)
    return answer
