"""A decoder that tells when it begins and ends, keeps the frames of clips as pictures, and refuses what is too long."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

from reelkind.client import Decoder, VideoError
from reelkind.video.clip import Chunk
from reelkind.video.decoding import Decoded

from .pictures import save_pictures

Stage = Callable[[str], None]
"""Called with ``decode`` or ``server`` when that begins."""


class WatchedDecoder:
    """Another decoder, for one job at a time.

    Args:
        inner: who decodes.
        max_duration_s: of a video.

    Attributes:
        stage: told what begins.
        pictures: folder for the frames of clips; None for none.
    """

    def __init__(self, inner: Decoder, max_duration_s: float) -> None:
        self._inner, self._max_duration_s = inner, max_duration_s
        self.num_workers = inner.num_workers
        self.seek = inner.seek
        self.stage: Stage = _nobody
        self.pictures: Path | None = None

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        """As ``Decoder.decode``.

        Raises:
            VideoError: also if the video is too long.
        """
        self.stage("decode")
        decoded = self._inner.decode(path, num_frames=num_frames, size_px=size_px)
        self._check(path, decoded.clip.duration_s * 1000)
        if self.pictures is not None:
            save_pictures(self.pictures, decoded.clip.frames, decoded.clip.times_ms)
        self.stage("server")
        return decoded

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        """As ``Decoder.stream``.

        Raises:
            VideoError: also if the video is too long; nobody knows before whose header does not say.
        """
        for chunk in self._inner.stream(path, rate=rate, size_px=size_px):
            self._check(path, max(chunk.duration_ms, chunk.position_ms))
            yield chunk

    def close(self) -> None:
        """Give up what is under way."""
        self._inner.close()

    def _check(self, path: str | os.PathLike[str], duration_ms: float) -> None:
        if duration_ms > self._max_duration_s * 1000:
            raise VideoError(
                path, f"lasts {_span(duration_ms / 1000)}, at most {_span(self._max_duration_s)} are taken here"
            )


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _nobody(stage: str) -> None:
    del stage
