"""Defaults and small steps that the sync and the async client share, so that neither is written twice."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferResult

from reelkind.core.errors import VideoError
from reelkind.core.specs import DEFAULT_ENSEMBLE

from . import _wire
from ._errors import RequestRejected
from ._prediction import Prediction
from .decoding import Decoded, Decoder

DEFAULT_URL = "127.0.0.1:8001"  # Triton's gRPC port
DEFAULT_ENSEMBLE_NAME = DEFAULT_ENSEMBLE
TIMEOUT_S = 30.0  # one call with its retries; sixteen frames on a busy laptop take two seconds
RETRY_S = 20.0  # a crashed model is back within five seconds, a restarted server within fifteen
PROBE_TIMEOUT_S = 5.0  # liveness and handshake carry no frames
READY_PAUSE_S = 0.25
BYTES_NAME = "<bytes>"

StrPath = str | os.PathLike[str]
Data = bytes | bytearray | memoryview | BinaryIO


class Call:
    """One call from its frames to its predictions; the clock starts when it is made.

    Args:
        frames: uint8 RGB, one video [T, H, W, 3] or several [B, T, H, W, 3].
        info: the server's handshake.
        path: what the predictions are named after.
        times_ms: int64 [T].
        decode_ms: time already spent on decoding.

    Attributes:
        batch: the frames as a batch, uint8 [B, T, H, W, 3].
    """

    def __init__(
        self,
        frames: npt.ArrayLike,
        info: _wire.ServerInfo,
        *,
        path: str | None = None,
        times_ms: npt.ArrayLike | None = None,
        decode_ms: float = 0.0,
    ) -> None:
        self._started = time.perf_counter()
        self._info = info
        self._path = path
        self._times_ms = None if times_ms is None else np.asarray(times_ms, np.int64)
        self._decode_ms = decode_ms
        self.batch = _wire.as_batch(frames, info)
        self._single = np.ndim(frames) == 4
        if self._times_ms is not None and self._times_ms.shape != (self.batch.shape[1],):
            raise RequestRejected(
                f"times_ms has shape {list(self._times_ms.shape)}, required is one time for each of the "
                f"{self.batch.shape[1]} frames"
            )

    @cached_property
    def request(self) -> dict[str, Any]:
        """Arguments of ``infer`` with the frames themselves; made only for the wire, as it copies them."""
        return _wire.request(self.batch)

    @classmethod
    def of(cls, decoded: Decoded, info: _wire.ServerInfo, path: str) -> Call:
        """The call for a decoded file."""
        clip = decoded.clip
        return cls(clip.frames, info, path=path, times_ms=clip.times_ms, decode_ms=decoded.decode_ms)

    def finish(self, result: InferResult) -> Prediction | Sequence[Prediction]:
        """One prediction for one video, a list for a batch."""
        answer = _wire.read_answer(result, self.batch, self._info)
        infer_ms = (time.perf_counter() - self._started) * 1000
        timings = {"decode": self._decode_ms, "infer": infer_ms, "total": self._decode_ms + infer_ms}
        found = _wire.predictions(answer, self._info, timings_ms=timings, path=self._path, times_ms=self._times_ms)
        return found[0] if self._single else found


def decode_data(decoder: Decoder, data: Data, info: _wire.ServerInfo, name: str) -> Decoded:
    """Decode a video that is not a file, by way of a temporary file (containers are read back and forth).

    Raises:
        VideoError: with ``name`` in the place of the temporary file.
    """
    with _as_file(data) as path:
        try:
            return decoder.decode(path, num_frames=info.num_frames, size_px=info.frame_size_px)
        except VideoError as error:
            raise VideoError(name, error.reason) from None


@contextmanager
def _as_file(data: Data) -> Iterator[str]:
    with tempfile.NamedTemporaryFile(prefix="reelkind-") as file:
        if isinstance(data, bytes | bytearray | memoryview):
            file.write(data)
        else:
            shutil.copyfileobj(data, file)
        file.flush()
        yield file.name


def in_flight(decoder: Decoder, concurrency: int | None) -> int:
    """Files worked on at once: enough that decoding and inference overlap, few enough for any memory."""
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, got {concurrency}")
    return concurrency or decoder.num_workers + 2
