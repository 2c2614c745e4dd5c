"""Videos to features, and features to predictions; written once for both clients."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from reelkind.core import tensors
from reelkind.core.errors import VideoError
from reelkind.core.features import CLIP, STREAM, Features, Recipe, Source, tensor_name
from reelkind.core.files import features_files as files
from reelkind.core.specs import Models
from reelkind.core.timing.clips import EXACT

from .answers import wire
from .answers.handshake import ServerInfo
from .answers.prediction import ModelInfo, Prediction
from .in_memory import Data, as_file
from .session import Session
from .source import StrPath, check_path, source_of, stamp, unchanged
from .transport.errors import ContractMismatch, ServerFailed
from .transport.transport import Array

if TYPE_CHECKING:
    from .cache import FeatureCache

NAME = "<features>"


async def server_recipe(session: Session, models: Models, rate: float | None) -> Recipe:
    """How a server makes features: of clips, or of streams if there is a rate."""
    return recipe_of(await session.info(models.features), rate, session.decoder.seek)


def recipe_of(info: ServerInfo, rate: float | None = None, seek: str = EXACT) -> Recipe:
    """How a ``features_*`` model makes features: of clips, or of streams if there is a rate (they know no ``seek``)."""
    return Recipe(
        kind=CLIP if rate is None else STREAM,
        members=info.model.members,
        weights=info.model.weights,
        views=info.model.views,
        num_frames=info.num_frames,
        frame_size_px=info.frame_size_px,
        rate=float(rate or 0),
        seek=seek if rate is None else EXACT,
    )


async def classify(session: Session, path: StrPath, models: Models) -> Prediction:
    """A video file or a features file to a prediction, by way of the cache if there is one."""
    check_path(path)
    if files.is_features_file(path):
        features = await session.transport.offload(files.load, path)
        return await classify_features(session, features, models, os.fspath(path))
    if session.cache is not None:
        return await classify_cached(session, session.cache, path, models)
    return await session.classify(path, models.classify)


async def classify_bytes(session: Session, data: Data, models: Models, name: str) -> Prediction:
    """A video that is no file to a prediction, by way of the cache if there is one."""
    if session.cache is None:
        return await session.classify_bytes(data, models.classify, name)
    with ExitStack() as stack:
        path = await session.transport.offload(stack.enter_context, as_file(data, name))
        try:
            return replace(await classify_cached(session, session.cache, path, models), path=name)
        except VideoError as error:
            raise VideoError(name, error.reason) from None


async def extract_clip(session: Session, path: StrPath, models: Models) -> Features:
    """Decode a file and have its features computed, if they are not in the cache.

    Raises:
        VideoError: if the file cannot be read as video, or is changed meanwhile.
        ClientError: if the server does not answer.
    """
    check_path(path)
    cache = session.cache
    with unchanged(path):
        source = await session.transport.offload(source_of if cache is None else cache.source_of, path)
        if cache is not None:
            info = await session.info(models.features, fresh=True)
            recipe = recipe_of(info, seek=session.decoder.seek)
            found = await session.transport.offload(cache.get, source, recipe)
            if found is not None:
                return replace(found, source=source)  # the same contents may have had another name
        features, _ = await _extract(session, path, source, models)
    if cache is not None:
        await session.transport.offload(cache.put, features)
    return features


async def classify_features(session: Session, features: Features, models: Models, called: str) -> Prediction:
    """Features to a prediction, without the video.

    Args:
        session: the connection.
        features: of a clip.
        models: who answers.
        called: what errors, and the prediction, call the features.

    Raises:
        FeaturesError: if they were made with something else than the server has.
        ClientError: if the server does not answer.
    """
    info = await session.info(models.features)
    features.check_made_as(recipe_of(info), called)
    return await _classify(session, features, info.model.views, models, called)


async def classify_cached(session: Session, cache: FeatureCache, path: StrPath, models: Models) -> Prediction:
    """Classify a file whose features may have been computed before; else compute and keep them.

    Raises:
        VideoError: if the file cannot be read as video.
        ClientError: if the server does not answer.
    """
    for _ in range(2):
        with suppress(ContractMismatch):  # weights were replaced: features of the old ones do not fit the new head
            return await _classify_cached(session, cache, path, models)
        await session.info(models.features, fresh=True)
    return await session.classify(path, models.classify)


async def _classify_cached(session: Session, cache: FeatureCache, path: StrPath, models: Models) -> Prediction:
    started = time.perf_counter()
    before = stamp(path)
    source = await session.transport.offload(cache.source_of, path)
    info = await session.info(models.features)
    views, called = info.model.views, os.fspath(path)
    found = await session.transport.offload(cache.get, source, recipe_of(info, seek=session.decoder.seek))
    if found is not None:
        read_ms = (time.perf_counter() - started) * 1000
        return replace(await _classify(session, found, views, models, called, read_ms), from_cache=True)
    features, decode_ms = await _extract(session, path, source, models)
    if stamp(path) == before:  # else these may not be the features of what was hashed
        await session.transport.offload(cache.put, features)
    answer = await _classify(session, features, views, models, called)
    total_ms = (time.perf_counter() - started) * 1000
    return replace(answer, timings_ms={"decode": decode_ms, "infer": total_ms - decode_ms, "total": total_ms})


def check_unchanged(before: ModelInfo, after: ModelInfo) -> None:
    """Compare what two answers of a server came from.

    Raises:
        ContractMismatch: if the weights were changed between them.
    """
    if before.weights != after.weights:
        raise ContractMismatch(
            f"the weights behind {after.ensemble!r} were changed in the midst of the work: try again"
        )


def check_finite(features: Mapping[str, Array], url: str) -> None:
    """Refuse what must not be kept.

    Raises:
        ServerFailed: if features are not numbers.
    """
    if not all(np.isfinite(array).all() for array in features.values()):
        raise ServerFailed(f"the server at {url} answered with features that are not numbers")


async def _extract(session: Session, path: StrPath, source: Source, models: Models) -> tuple[Features, float]:
    """Features, and the milliseconds that decoding took."""
    model = models.features
    info = await session.info(model, fresh=True)
    decoded = await session.transport.offload(
        session.decoder.decode, path, num_frames=info.num_frames, size_px=info.frame_size_px
    )
    found = await session.request(model, {tensors.FRAMES.name: decoded.clip.frames[None]})
    check_unchanged(info.model, (await session.info(model, fresh=True)).model)
    check_finite(found, session.url)
    arrays = {member: found[tensor_name(member)][0] for member in info.model.members}
    recipe, clip = recipe_of(info, seek=session.decoder.seek), decoded.clip
    features = Features(recipe, source, arrays, clip.times_ms, num_stand_ins=clip.num_stand_ins)
    return features, decoded.decode_ms


async def _classify(
    session: Session,
    features: Features,
    views: tuple[str, ...],
    models: Models,
    called: str,
    decode_ms: float = 0.0,
) -> Prediction:
    model = models.classify_features
    (answer,) = await session.predict(
        model,
        features.first_views(len(views)),
        path=called,
        times_ms=features.times_ms,
        decode_ms=decode_ms,
    )
    if answer.model.weights != features.recipe.weights:
        raise ContractMismatch(f"{called}: made with other weights than those behind {model!r}: try again")
    answer = wire.with_stand_ins(answer, features.num_stand_ins)
    return replace(answer, model=replace(answer.model, views=views))
