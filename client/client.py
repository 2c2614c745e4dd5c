"""The blocking client."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial

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
from .stream import IN_FLIGHT, Progress, Wanted
from .transport.address import Tls
from .transport.retry import RESTART_S, Retry
from .transport.threads import Threads, iterate, run_many
from .transport.transport import finish


class Client:
    """Classifies videos through a server. Threads may share one client.

    >>> with Client("127.0.0.1:8001") as client:
    ...     print(client.classify("holiday.mp4").label)
    natural

    ``member`` and ``tta`` may also be given with each call, for that call; None means the client's own.

    Args:
        url: ``host:port`` of the server's gRPC port; ``http://host:port`` or ``https://host:port`` for HTTP;
            several with commas between them, or ``dns:///host:port`` for all addresses of a name, take turns.
        member: who answers: a member's name, ``"ensemble"`` for all of them; None for the server's default member.
        tta: test-time augmentation: ``"off"``; ``"fast"`` looks at the frames' features in several orders, at next to
            no cost; ``"full"`` looks at each frame in several ways too, which costs a pass of the network each.
        timeout_s: deadline of one call, retries included, decoding not.
        retry_s: how long what is away for the moment (a model being restarted, a server that answered before) is tried
            again, a full queue at most two seconds of it; 0 for never, or a ``Retry`` that says it all.
        decoder: how files are decoded; by default in this process. The caller closes it.
        headers: sent with every request, e.g. for a proxy that authenticates.
        tls: True to encrypt gRPC and trust the well-known authorities, or files to use; HTTP is encrypted by its URL.
        abstain: whether to give no label below the confidence that the server names, or below this one.
        num_frames: frames of a file that are looked at, fewer for speed; by default as many as the model was made for.
        shared_memory: whether a server on this machine gets the frames through shared memory: about a third of the
            CPU time; where it cannot, they go by the wire.
        cache: features of files seen before: classifying such a file again, even under another name, costs next to
            nothing. Clips only; for timelines, extract features with a rate.

    Raises:
        InvalidOption: if one of these is of no use.
        TlsFailed: if the files of ``tls`` are of no use.
    """

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
        self._session = Session(url, wanted, blocking=True)

    def server_info(self, *, member: str | None = None, tta: str | None = None) -> ServerInfo:
        """What the server says of the model that answers.

        Raises:
            ClientError: if it does not answer, lacks the model, or speaks another contract.
        """
        return finish(self._session.info(self._session.choose(member, tta).classify))

    def is_ready(self) -> bool:
        """Whether the server says that it can answer; one whose model just crashed still says so."""
        return finish(self._session.is_ready(self._session.choose().classify))

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Wait for a server that is being started.

        Raises:
            ServerUnavailable: if it is not ready by then.
            ClientError: if waiting cannot help, as with a wrong certificate.
        """
        finish(self._session.wait_until_ready(self._session.choose().classify, timeout_s))

    def classify(self, path: StrPath, *, member: str | None = None, tta: str | None = None) -> Prediction:
        """Decode a file and classify it, or classify the features in a ``.features.safetensors`` file.

        Raises:
            VideoError: if the file cannot be read as video.
            FeaturesError: if it holds features that are damaged, or made with something else than the server has.
            ClientError: if the server does not answer.
        """
        return finish(_features.classify(self._session, path, self._session.choose(member, tta)))

    def classify_bytes(
        self, data: Data, name: str = session.BYTES_NAME, *, member: str | None = None, tta: str | None = None
    ) -> Prediction:
        """Classify a video that is in memory or in an open binary file, called ``name``; errors as ``classify``."""
        models = self._session.choose(member, tta)
        return finish(_features.classify_bytes(self._session, data, models, name))

    def classify_frames(
        self,
        frames: npt.ArrayLike,
        times_ms: npt.ArrayLike | None = None,
        *,
        member: str | None = None,
        tta: str | None = None,
    ) -> Prediction | Sequence[Prediction]:
        """Classify frames decoded elsewhere.

        Args:
            frames: uint8 RGB, one video [T, H, W, 3] or several [B, T, H, W, 3], in order of time.
            times_ms: int64 [T], when each was on screen; only passed through.
            member: see the class.
            tta: see the class.

        Returns:
            One prediction, or one a video of a batch.

        Raises:
            RequestRejected: if these are no frames, or too many for one request.
            ClientError: if the server does not answer.
        """
        return finish(self._session.classify_frames(frames, times_ms, self._session.choose(member, tta).classify))

    def extract_features(
        self,
        path: StrPath,
        *,
        rate: float | None = None,
        progress: Progress | None = None,
        member: str | None = None,
        tta: str | None = None,
    ) -> Features:
        """Have a file's features computed, to keep them (``core.files.features_files.save``) and start from them later.

        Args:
            path: a video.
            rate: None for those of a clip, for ``classify_features``; else frames a second, for ``timeline``.
            progress: called with milliseconds decoded and milliseconds in all, if there is a rate.
            member: see the class.
            tta: see the class; ``"off"`` and ``"fast"`` need the same features.

        Raises:
            VideoError: if the file cannot be read as video, to its end.
            ClientError: if the server does not answer.
        """
        models = self._session.choose(member, tta)
        if rate is None:
            return finish(_features.extract_clip(self._session, path, models))
        with Threads(IN_FLIGHT) as spawn:
            return finish(stream.extract_stream(self._session, path, models, rate, progress, spawn))

    def features_recipe(
        self, *, rate: float | None = None, member: str | None = None, tta: str | None = None
    ) -> Recipe:
        """How ``extract_features`` makes them now: features with an equal ``recipe`` need not be made again."""
        return finish(_features.server_recipe(self._session, self._session.choose(member, tta), rate))

    def classify_features(
        self, features: Features, *, name: str = _features.NAME, member: str | None = None, tta: str | None = None
    ) -> Prediction:
        """Classify a clip's features, called ``name``, without the video.

        Raises:
            FeaturesError: if they were made with something else than the server has.
            ClientError: if the server does not answer.
        """
        return finish(_features.classify_features(self._session, features, self._session.choose(member, tta), name))

    def timeline(
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
        """What a video of any length shows when; arguments and errors as ``stream_timeline``."""
        events = self._stream(path, Wanted(rate, window_s, switch_penalty), progress, self._session.choose(member, tta))
        for event in events:
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
    ) -> Generator[Event, None, None]:
        """Tell windows and segments while the rest of a video is decoded, and the whole timeline last.

        Args:
            path: a video, or a features file made with a rate.
            rate: frames a second to look at; by default ``core.timing.timeline.RATE``, or that of the features.
            window_s: seconds that are classified together.
            switch_penalty: nats of evidence that a change of the label needs: docs/timelines.md says what it does.
            progress: called with milliseconds decoded and milliseconds in all.
            member: see the class.
            tta: see the class.

        Raises:
            InvalidOption: if ``rate``, ``window_s`` or ``switch_penalty`` cannot be.
            VideoError: if nothing of the file can be read; a file that is cut off has a timeline with an ``error``.
            FeaturesError: if it holds features that are damaged, or made with something else than the server has.
            ClientError: if the server does not answer.
        """
        return self._stream(path, Wanted(rate, window_s, switch_penalty), progress, self._session.choose(member, tta))

    def classify_many(
        self,
        paths: Iterable[StrPath],
        *,
        concurrency: int | None = None,
        ordered: bool = True,
        member: str | None = None,
        tta: str | None = None,
    ) -> Iterator[Prediction | Failure]:
        """Classify any number of files, several at a time; one that fails does not end the run.

        ``paths`` is read as the work goes on, so memory does not grow with its length.

        Args:
            paths: files.
            concurrency: files in flight; by default two more than the decoder has workers.
            ordered: answer in the order of ``paths``, or as each is ready.
            member: see the class.
            tta: see the class.

        Raises:
            ClientError: before the first answer, if there is no server to ask, or ``paths`` is a single one.
        """
        check_several(paths)
        limit = self._session.in_flight(concurrency)
        models = self._session.choose(member, tta)
        finish(self._session.check(models))  # a wrong address is one error, not one a file
        return run_many(partial(self._attempt, models), paths, limit, ordered=ordered)

    def close(self) -> None:
        """Close the connection; calls under way end with ``RequestCancelled``."""
        finish(self._session.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(
        self, path: StrPath, wanted: Wanted, progress: Progress | None, models: Models
    ) -> Generator[Event, None, None]:
        return iterate(partial(stream.timeline, self._session, path, models, wanted, progress), IN_FLIGHT)

    def _attempt(self, models: Models, path: StrPath) -> Prediction | Failure:
        try:
            return finish(_features.classify(self._session, path, models))
        except ReelkindError as error:
            return Failure(shown(path), error)
