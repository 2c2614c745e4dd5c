"""What both clients do, written once: videos, frames and features to predictions."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from reelkind.core import tensors
from reelkind.core.specs import Models
from reelkind.video.decoding import Decoded, Decoder, InlineDecoder

from .answers import wire
from .answers.handshake import ServerInfo
from .answers.prediction import Prediction
from .answers.wire import Threshold
from .connection import Connection
from .in_memory import Data, decode_data
from .options import ClientOptions
from .source import StrPath
from .transport.errors import InvalidOption
from .transport.transport import Array

DEFAULT_URL = "127.0.0.1:8001"  # Triton's gRPC port
BYTES_NAME = "<bytes>"


class Session(Connection):
    """A connection, and what its user wants: who answers, how files are decoded, when to give no label.

    Arguments are those of ``Connection``.

    Attributes:
        decoder: turns files into frames.
        cache: features of files seen before, if they are kept.
    """

    def __init__(self, url: str, options: ClientOptions, *, blocking: bool) -> None:
        self.decoder: Decoder = InlineDecoder() if options.decoder is None else options.decoder
        self.cache = options.cache
        self._options = options
        super().__init__(url, options, blocking=blocking)

    async def info(self, model: str, *, fresh: bool = False) -> ServerInfo:
        """The server's word on a model, but for the number of frames where the client wants another."""
        info = await super().info(model, fresh=fresh)
        num_frames = self._options.num_frames
        return info if num_frames is None else replace(info, num_frames=num_frames)

    def choose(self, member: str | None = None, tta: str | None = None) -> Models:
        """As ``ClientOptions.choose``."""
        return self._options.choose(member, tta)

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
        found = await self.request(model, inputs)
        info = await self.info(model)  # of those who have answered
        size = wire.size_of(*next(iter(inputs.items())))
        answer = wire.read_answer(found, size, info)
        infer_ms = (time.perf_counter() - started) * 1000
        timings = {"decode": decode_ms, "infer": infer_ms, "total": decode_ms + infer_ms}
        about = wire.About(path, wire.check_times(times_ms, size[1]), timings)
        return wire.predictions(answer, info, self.threshold(info), about)

    async def check(self, models: Models) -> ServerInfo:
        """The handshake, and whether what the client was asked for can be had: one error, not one a file."""
        info = await self.info(models.classify)
        self.threshold(info)
        return info

    async def classify(self, path: StrPath, model: str) -> Prediction:
        info = await self.info(model)
        decoded = await self.transport.offload(
            self.decoder.decode, path, num_frames=info.num_frames, size_px=info.frame_size_px
        )
        return await self._classify_decoded(decoded, model, os.fspath(path))

    async def classify_bytes(self, data: Data, model: str, name: str) -> Prediction:
        info = await self.info(model)
        decoded = await self.transport.offload(decode_data, self.decoder, data, info, name)
        return await self._classify_decoded(decoded, model, name)

    async def classify_frames(
        self, frames: npt.ArrayLike, times_ms: npt.ArrayLike | None, model: str
    ) -> Prediction | Sequence[Prediction]:
        inputs = {tensors.FRAMES.name: wire.as_batch(frames)}
        found = await self.predict(model, inputs, times_ms=times_ms)
        return found[0] if np.ndim(frames) == len(tensors.FRAMES.shape) - 1 else found

    def threshold(self, info: ServerInfo) -> Threshold | None:
        """Confidence below which this client gives no label; None if it always does.

        Raises:
            InvalidOption: if it is the server's to tell, and it does not.
        """
        abstain = self._options.abstain
        if abstain is False:
            return None
        if abstain is not True:
            return Threshold(abstain, asked_for=True)
        if info.abstain_below is None:
            raise InvalidOption(
                f"the server at {self.url} tells no confidence for {info.model.ensemble!r} below which to abstain: "
                "name one, e.g. abstain=0.8 (on the command line --abstain-below 0.8)"
            )
        return Threshold(info.abstain_below)

    def in_flight(self, concurrency: int | None) -> int:
        """Files worked on at once: enough that decoding and inference overlap, few enough for any memory."""
        if concurrency is not None and concurrency < 1:
            raise InvalidOption(f"concurrency must be at least 1, got {concurrency}")
        return concurrency or self.decoder.num_workers + 2

    async def _classify_decoded(self, decoded: Decoded, model: str, path: str) -> Prediction:
        clip = decoded.clip
        inputs = {tensors.FRAMES.name: clip.frames[None]}
        (found,) = await self.predict(model, inputs, path=path, times_ms=clip.times_ms, decode_ms=decoded.decode_ms)
        return wire.with_stand_ins(found, clip.num_stand_ins)
