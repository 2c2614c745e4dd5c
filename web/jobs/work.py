"""One job to its answer: through ``client``, from features kept where there are any."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelkind.client import PATIENT, Client, FeatureCache, Prediction, ReelkindError, Timeline, VideoError
from reelkind.core.features import STREAM, Source
from reelkind.core.files import features_files
from reelkind.core.timing.timeline import RATE

from ..settings import Settings
from . import kept
from .files import upload_path
from .pictures import kept_moments
from .tables import FEATURES, Job
from .watched_decoder import WatchedDecoder

Tell = Callable[..., None]
"""Writes values of the job down, e.g. ``tell(stage="decode", progress=0.5)``."""

_TELL_EVERY_S = 0.25


@dataclass(frozen=True)
class Outcome:
    """What came of a job; the fields are columns of ``tables.Job``."""

    result: dict[str, Any] | None
    timeline: dict[str, Any] | None
    pictures: list[int]


class Workshop:
    """What a worker needs for any job.

    Args:
        settings: of the application.
        decoder: of this worker.
    """

    def __init__(self, settings: Settings, decoder: WatchedDecoder) -> None:
        self._settings, self._decoder = settings, decoder
        self._cache = FeatureCache(settings.features, max_bytes=settings.limits.keep_bytes)
        self._clients: dict[bool | float, Client] = {}

    def do(self, job: Job, tell: Tell) -> Outcome:
        """Classify a job's file.

        Raises:
            ReelkindError: if there is no answer.
        """
        is_features = job.kind == FEATURES
        path = upload_path(self._settings.uploads, job.upload, is_features=is_features)
        if not path.is_file():
            raise VideoError(job.name, "the file was removed from this server, which keeps files for a while only")
        folder = self._settings.pictures / job.upload
        self._decoder.pictures = None if is_features else folder
        self._decoder.stage = lambda stage: tell(stage=stage, progress=None)
        tell(stage="server", progress=None)
        if is_features and features_files.load(path).recipe.kind == STREAM:
            timeline = self._timeline_of_features(path, job)
            return Outcome(None, timeline.to_dict(windows=True), [])
        member, tta = job.options["member"], job.options["tta"]
        prediction = self.client(job.options["abstain"]).classify(path, member=member, tta=tta)
        result = as_result(replace(prediction, path=job.name), from_features=is_features)
        if is_features or not job.options["timeline"]:
            return Outcome(result, None, [] if is_features else kept_moments(folder))
        found = self._timeline(path, job, tell)
        return Outcome(result, {**found.to_dict(windows=True), "path": job.name}, kept_moments(folder))

    def prefetch(self, path: Path, choices: list[tuple[str | None, str]], go_on: Callable[[], bool]) -> None:
        """Have the features computed and kept that these choices need, as long as nobody waits."""
        self._decoder.pictures, self._decoder.stage = None, lambda _: None
        for member, tta in choices:
            if not go_on():
                return
            self._extract(path, member, tta)

    def client(self, abstain: bool | float = False) -> Client:
        """The client that abstains so; connections are kept."""
        if abstain not in self._clients:
            if len(self._clients) > 8:  # thresholds of many users
                self.close()
            self._clients[abstain] = Client(
                self._settings.url, decoder=self._decoder, abstain=abstain, cache=self._cache, retry_s=PATIENT
            )
        return self._clients[abstain]

    def close(self) -> None:
        """Close all connections; calls under way end."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def _extract(self, path: Path, member: str | None, tta: str) -> None:
        self.client().extract_features(path, member=member, tta=tta)

    def _timeline(self, path: Path, job: Job, tell: Tell) -> Timeline:
        """From features kept; else they are computed and kept; of a damaged file, what can be read."""
        client = self.client(job.options["abstain"])
        member, tta = job.options["member"], job.options["tta"]
        progress = _Progress(tell)
        found = kept.find_stream(self._settings.features, job.upload, client, RATE, member, tta)
        if found is None:
            tell(stage="decode", progress=0.0)
            try:
                features = client.extract_features(path, rate=RATE, progress=progress, member=member, tta=tta)
            except VideoError as error:
                if "at most" in error.reason:  # too long: nothing more of it is looked at
                    raise
                with closing(
                    client.stream_timeline(path, rate=RATE, progress=progress, member=member, tta=tta)
                ) as events:
                    return next(event for event in events if isinstance(event, Timeline))
            features = replace(features, source=Source(job.name, features.source.sha256, features.source.num_bytes))
            found = kept.stream_path(self._settings.features, job.upload, features.recipe)
            kept.keep_stream(features, found)
            tell(stage="server", progress=None)
        return client.timeline(found, rate=RATE, member=member, tta=tta)

    def _timeline_of_features(self, path: Path, job: Job) -> Timeline:
        client = self.client(job.options["abstain"])
        found = client.timeline(path, member=job.options["member"], tta=job.options["tta"])
        return replace(found, path=job.name)


class _Progress:
    """Tells how much of a video is decoded, not too often."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._told = tell, 0.0

    def __call__(self, position_ms: int, duration_ms: int) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            self._tell(progress=min(1.0, position_ms / max(1, position_ms, duration_ms)))


def as_result(prediction: Prediction, *, from_features: bool = False) -> dict[str, Any]:
    """A prediction as ``reelkind classify --jsonl --attention`` prints it."""
    raw = {**prediction.to_dict(), "error": None}
    return {**raw, "from_cache": True} if from_features else raw


def choices_of(client: Client) -> list[tuple[str | None, str]]:
    """Every (member, test-time augmentation) whose features differ, the cheap ones first."""
    from .models import groups

    names = [group["name"] for group in groups(client)]
    return [(name, tta) for tta in ("off", "full") for name in names]


__all__ = ["Outcome", "ReelkindError", "Workshop", "as_result", "choices_of"]
