"""The client for asyncio: the same calls, awaited."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy.typing as npt

from reelkind.core.errors import ReelkindError
from reelkind.core.features import Features, Recipe
from reelkind.core.specs import Models
from reelkind.core.timing.segments import SWITCH_PENALTY
from reelkind.core.timing.timeline import WINDOW_S
from reelkind.video.decoding import Decoder

from . import features as _features
from . import options, session, stream
from .answers.handshake import ServerInfo
from .answers.prediction import Failure, Prediction
from .answers.timeline import Event, Timeline
from .cache import FeatureCache
from .in_memory import Data
from .options import ClientOptions
from .session import Session
from .source import StrPath, check_several, shown
from .stream import Progress, Wanted
from .transport.address import Tls
from .transport.retry import RESTART_S, Retry

T = TypeVar("T")


class AsyncClient:
    """``Client`` for asyncio; arguments, answers and errors are the same. Make it inside a running event loop."""

    def __init__(
        self,
        url: str = session.DEFAULT_URL,
        *,
        member: str | None = None,
        tta: str = "off",
        timeout_s: float = options.TIMEOUT_S,
        retry_s: float | Retry = RESTART_S,
        decoder: Decoder | None = None,
        headers: Mapping[str, str] | None = None,
        tls: bool | Tls = False,
        abstain: bool | float = False,
        num_frames: int | None = None,
        shared_memory: bool = True,
        cache: FeatureCache | None = None,
    ) -> None:
        self.url = url
        wanted = ClientOptions(
            member, tta, timeout_s, retry_s, decoder, headers, tls, abstain, num_frames, shared_memory, cache
        )
        self._session = Session(url, wanted, blocking=False)

    async def server_info(self, *, member: str | None = None, tta: str | None = None) -> ServerInfo:
        """As ``Client.server_info``."""
        return await self._session.info(self._session.choose(member, tta).classify)

    async def is_ready(self) -> bool:
        """As ``Client.is_ready``."""
        return await self._session.is_ready(self._session.choose().classify)

    async def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """As ``Client.wait_until_ready``."""
        await self._session.wait_until_ready(self._session.choose().classify, timeout_s)

    async def classify(self, path: StrPath, *, member: str | None = None, tta: str | None = None) -> Prediction:
        """As ``Client.classify``; decoding does not block the event loop."""
        return await _features.classify(self._session, path, self._session.choose(member, tta))

    async def classify_bytes(
        self, data: Data, name: str = session.BYTES_NAME, *, member: str | None = None, tta: str | None = None
    ) -> Prediction:
        """As ``Client.classify_bytes``."""
        models = self._session.choose(member, tta)
        return await _features.classify_bytes(self._session, data, models, name)

    async def classify_frames(
        self,
        frames: npt.ArrayLike,
        times_ms: npt.ArrayLike | None = None,
        *,
        member: str | None = None,
        tta: str | None = None,
    ) -> Prediction | Sequence[Prediction]:
        """As ``Client.classify_frames``."""
        return await self._session.classify_frames(frames, times_ms, self._session.choose(member, tta).classify)

    async def extract_features(
        self,
        path: StrPath,
        *,
        rate: float | None = None,
        progress: Progress | None = None,
        member: str | None = None,
        tta: str | None = None,
    ) -> Features:
        """As ``Client.extract_features``."""
        models = self._session.choose(member, tta)
        if rate is None:
            return await _features.extract_clip(self._session, path, models)
        return await stream.extract_stream(self._session, path, models, rate, progress, _spawn)

    async def features_recipe(
        self, *, rate: float | None = None, member: str | None = None, tta: str | None = None
    ) -> Recipe:
        """As ``Client.features_recipe``."""
        return await _features.server_recipe(self._session, self._session.choose(member, tta), rate)

    async def classify_features(
        self, features: Features, *, name: str = _features.NAME, member: str | None = None, tta: str | None = None
    ) -> Prediction:
        """As ``Client.classify_features``."""
        return await _features.classify_features(self._session, features, self._session.choose(member, tta), name)

    async def timeline(
        self,
        path: StrPath,
        *,
        rate: float | None = None,
        window_s: float = WINDOW_S,
        switch_penalty: float = SWITCH_PENALTY,
        progress: Progress | None = None,
        member: str | None = None,
        tta: str | None = None,
    ) -> Timeline:
        """As ``Client.timeline``."""
        events = self._stream(path, Wanted(rate, window_s, switch_penalty), progress, self._session.choose(member, tta))
        async for event in events:
            if isinstance(event, Timeline):
                return event
        raise AssertionError("a timeline ends with itself")

    def stream_timeline(
        self,
        path: StrPath,
        *,
        rate: float | None = None,
        window_s: float = WINDOW_S,
        switch_penalty: float = SWITCH_PENALTY,
        progress: Progress | None = None,
        member: str | None = None,
        tta: str | None = None,
    ) -> AsyncGenerator[Event, None]:
        """As ``Client.stream_timeline``."""
        return self._stream(path, Wanted(rate, window_s, switch_penalty), progress, self._session.choose(member, tta))

    async def classify_many(
        self,
        paths: Iterable[StrPath],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        member: str | None = None,
        tta: str | None = None,
    ) -> AsyncIterator[Prediction | Failure]:
        """As ``Client.classify_many``."""
        check_several(paths)
        limit = self._session.in_flight(concurrency)
        models = self._session.choose(member, tta)
        await self._session.check(models)  # a wrong address is one error, not one a file
        places = asyncio.Semaphore(limit)
        waiting: deque[asyncio.Task[Prediction | Failure]] = deque()
        try:
            for path in paths:
                waiting.append(asyncio.create_task(self._attempt(path, models, places)))
                while len(waiting) >= 2 * limit:  # finished ones may queue behind a slow one
                    yield await _next(waiting, ordered)
            while waiting:
                yield await _next(waiting, ordered)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        """As ``Client.close``."""
        await self._session.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _stream(
        self, path: StrPath, wanted: Wanted, progress: Progress | None, models: Models
    ) -> AsyncGenerator[Event, None]:
        return stream.timeline(self._session, path, models, wanted, progress, _spawn)

    async def _attempt(self, path: StrPath, models: Models, places: asyncio.Semaphore) -> Prediction | Failure:
        async with places:
            try:
                return await _features.classify(self._session, path, models)
            except ReelkindError as error:
                return Failure(shown(path), error)


async def _next(waiting: deque[asyncio.Task[Prediction | Failure]], ordered: bool) -> Prediction | Failure:
    if ordered:
        first = waiting[0]
    else:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        first = next(iter(done))
    answer = await first  # stays in ``waiting`` until it is there, so that it is cancelled with the rest
    waiting.remove(first)
    return answer


def _spawn(make: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
    task = asyncio.create_task(make())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever gave it up asks no more
    return task
