"""Long videos to features and timelines while they are decoded: decoding, sending and inference overlap.

    file ─► decoder's process ─► chunks ─► features_* (some in flight) ─► windows ─► classify_features_* ─► events

Memory does not grow with the video but for what is told of it: a decoder reads no further than its chunks are taken,
and no more chunks are taken than may be in flight. Written once, as coroutines, for both clients.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from reelkind.core import tensors
from reelkind.core.errors import VideoError
from reelkind.core.features import Features, tensor_name
from reelkind.core.files.features_files import is_features_file, load
from reelkind.core.specs import Models
from reelkind.core.timing.timeline import RATE, FilledWindow, Windows, window_frames
from reelkind.video.clip import MAX_RATE, MIN_RATE, Chunk, exact_rate

from .answers.handshake import ServerInfo
from .answers.prediction import Prediction
from .answers.timeline import Assembly, Event, Segment, Window
from .features import check_finite, check_unchanged, recipe_of
from .session import Session
from .source import StrPath, check_path, source_of, unchanged
from .transport.errors import InvalidOption

IN_FLIGHT = 4  # chunks; enough for two backbone instances to be busy while others are on their way

Progress = Callable[[int, int], None]
"""(milliseconds of the video that are decoded, milliseconds that it lasts)"""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Task(Awaitable[T_co], Protocol[T_co]):
    """Work under way."""

    def done(self) -> bool: ...

    def cancel(self) -> bool: ...


class Spawn(Protocol):
    """Starts a coroutine, made where it runs, that nobody waits for yet."""

    def __call__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Task[T]: ...


@dataclass(frozen=True)
class Wanted:
    """How a timeline is made.

    Attributes:
        rate: frames a second; None for that of the features, or of ``core.timing.timeline``.
        window_s: seconds of a window.
        switch_penalty: nats that a change of the label costs.
    """

    rate: float | None
    window_s: float
    switch_penalty: float

    def check(self) -> None:
        """Refuse what cannot be, the rate apart.

        Raises:
            InvalidOption: naming it.
        """
        if not 0 < self.window_s < math.inf:
            raise InvalidOption(f"window_s must be a number of seconds above 0, got {self.window_s}")
        if not 0 <= self.switch_penalty < math.inf:
            raise InvalidOption(f"switch_penalty must be a number of nats, 0 or more, got {self.switch_penalty}")


@dataclass(frozen=True, eq=False)
class Piece:
    """Features of some frames in a row.

    Attributes:
        features: tensor name -> float32 [V, N, D].
        times_ms: int64 [N].
        position_ms: how far the video has been read; of the last piece, where it ends.
        is_last: whether there are no more.
    """

    features: Mapping[str, npt.NDArray[np.float32]]
    times_ms: npt.NDArray[np.int64]
    position_ms: int
    is_last: bool


async def extract_stream(
    session: Session, path: StrPath, models: Models, rate: float, progress: Progress | None, spawn: Spawn
) -> Features:
    """A file's features at ``rate`` frames a second.

    Raises:
        VideoError: if the file cannot be read to its end, or is changed meanwhile.
        ClientError: if the server does not answer.
    """
    check_path(path)
    info = await session.info(models.features, fresh=True)
    with unchanged(path):
        source = await session.transport.offload(source_of, path)
        async with aclosing(_pieces(session, path, info, _check_rate(rate), spawn, progress)) as found:
            pieces = [piece async for piece in found]
    check_unchanged(info.model, (await session.info(info.model.ensemble, fresh=True)).model)
    arrays = {
        member: np.concatenate([piece.features[tensor_name(member)] for piece in pieces], axis=1)
        for member in info.model.members
    }
    times_ms = np.concatenate([piece.times_ms for piece in pieces])
    return Features(recipe_of(info, rate), source, arrays, times_ms, pieces[-1].position_ms)


async def timeline(
    session: Session,
    path: StrPath,
    models: Models,
    wanted: Wanted,
    progress: Progress | None,
    spawn: Spawn,
) -> AsyncGenerator[Event, None]:
    """Windows and segments while a file is decoded, or from its features, the timeline last.

    Raises:
        VideoError: if nothing of the file can be read; what can be read of a damaged one has a timeline.
        FeaturesError: if features were made with something else than the server has.
        ClientError: if the server does not answer.
    """
    check_path(path)
    wanted.check()
    info = await session.info(models.features)
    if is_features_file(path):
        features = await session.transport.offload(load, path)
        rate = features.recipe.rate if wanted.rate is None else float(wanted.rate)
        pieces = _read_pieces(features, info, rate, os.fspath(path))
    else:
        rate = _check_rate(RATE if wanted.rate is None else wanted.rate)
        pieces = _pieces(session, path, info, rate, spawn, progress)
    async with aclosing(_events(session, path, models, replace(wanted, rate=rate), pieces)) as events:
        async for event in events:
            yield event


async def _events(
    session: Session,
    path: StrPath,
    models: Models,
    wanted: Wanted,
    pieces: AsyncGenerator[Piece, None],
) -> AsyncGenerator[Event, None]:
    started = time.perf_counter()
    rate = wanted.rate or RATE
    num_frames = window_frames(rate, wanted.window_s)
    model = models.classify_features
    info, answering = await session.info(models.features), await session.info(model)
    threshold = session.threshold(answering)
    assembly = Assembly(
        path,
        rate=exact_rate(rate),
        num_frames=num_frames,
        classes=info.classes,
        abstain_below=0.0 if threshold is None else threshold.confidence,
        switch_penalty=wanted.switch_penalty,
    )
    windows = Windows(num_frames)
    position_ms, problem = 0, None

    async def answered(filled: Iterator[FilledWindow]) -> AsyncGenerator[Window | Segment, None]:
        while batch := list(islice(filled, answering.max_batch)):
            for window, answer in zip(batch, await _classify(session, model, batch, info), strict=True):
                for event in assembly.add(window, answer):
                    yield event

    try:
        async with aclosing(pieces):
            async for piece in pieces:
                position_ms = piece.position_ms
                if piece.is_last:
                    assembly.ends_at(windows.num_seen + len(piece.times_ms), position_ms)
                async for event in answered(windows.add(piece.features)):
                    yield event
    except VideoError as error:
        if not windows.num_seen:
            raise
        problem = error
        assembly.ends_at(windows.num_seen, position_ms)
    async for event in answered(windows.finish()):
        yield event
    for last in assembly.finish((time.perf_counter() - started) * 1000, problem):
        yield last


async def _classify(session: Session, model: str, batch: list[FilledWindow], info: ServerInfo) -> list[Prediction]:
    names = batch[0].features
    answers = await session.predict(
        model, {name: np.stack([window.features[name] for window in batch]) for name in names}
    )
    check_unchanged(info.model, answers[0].model)
    return [replace(answer, model=replace(answer.model, views=info.model.views)) for answer in answers]


async def _pieces(
    session: Session, path: StrPath, info: ServerInfo, rate: float, spawn: Spawn, progress: Progress | None
) -> AsyncGenerator[Piece, None]:
    """Features in order, ``IN_FLIGHT`` requests under way; an error of the file comes after what could be read."""
    chunks = session.decoder.stream(path, rate=rate, size_px=info.frame_size_px)
    waiting: deque[Task[Piece]] = deque()
    problem: VideoError | None = None
    try:
        while True:
            try:
                chunk = await session.transport.offload(next, chunks, None)
            except VideoError as error:
                problem = error
                break
            if chunk is None:
                break
            if progress is not None:
                progress(chunk.position_ms, chunk.duration_ms)
            waiting.append(spawn(partial(_featured, session, info, chunk)))
            while waiting and (len(waiting) >= IN_FLIGHT or waiting[0].done()):
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
        if problem is not None:
            raise problem
    finally:
        for task in waiting:
            task.cancel()
        with suppress(ValueError):  # a thread is reading it, whose end nobody waits for: then it ends itself
            chunks.close()


async def _featured(session: Session, info: ServerInfo, chunk: Chunk) -> Piece:
    """Features of a chunk; a picture that stays on screen is sent once."""
    model = info.model.ensemble
    is_new = np.diff(chunk.times_ms, prepend=-1) != 0  # [N]
    found = await session.request(model, {tensors.FRAMES.name: chunk.frames[None, is_new]})
    check_unchanged(info.model, (await session.info(model)).model)
    check_finite(found, session.url)
    rows = np.cumsum(is_new) - 1  # [N], which of the pictures sent each frame is
    arrays = {name: np.asarray(array[0][:, rows], np.float32) for name, array in found.items()}
    return Piece(arrays, chunk.times_ms, chunk.position_ms, chunk.is_last)


async def _read_pieces(features: Features, info: ServerInfo, rate: float, called: str) -> AsyncGenerator[Piece, None]:
    """Features that were extracted before, all at once."""
    features.check_made_as(recipe_of(info, rate), called)
    arrays = {name: array[0] for name, array in features.first_views(len(info.model.views)).items()}
    yield Piece(arrays, features.times_ms, features.duration_ms, is_last=True)


def _check_rate(rate: float) -> float:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InvalidOption(f"rate must be from {MIN_RATE:g} to {MAX_RATE:g} frames a second, got {rate}")
    return float(rate)
