"""Inputs to a few pictures of each, for a person to judge what the model doubted."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from reelkind.client import Decoder, VideoError

from .fetching import fetched

NUM_PICTURES = 4  # of a video
SIZE_PX = 128


@dataclass(frozen=True)
class Strip:
    """Pictures of one input side by side, or why there are none.

    Attributes:
        jpeg_uri: a ``data:`` URI; None if it cannot be shown.
        problem: a sentence then.
    """

    jpeg_uri: str | None
    problem: str | None


def strips(uris: Iterable[str], folder: str, decoder: Decoder) -> dict[str, Strip]:
    """A strip of each.

    Args:
        uris: inputs of a job; they are read again from where they are.
        folder: what relative paths are relative to.
        decoder: reads the files, which nobody vouches for.
    """
    return {uri: _strip(uri, folder, decoder) for uri in uris}


def _strip(uri: str, folder: str, decoder: Decoder) -> Strip:
    from PIL import Image

    try:
        with fetched(uri, folder) as file:
            frames = decoder.decode(file.path, num_frames=NUM_PICTURES, size_px=SIZE_PX).clip.frames  # [T, S, S, 3]
    except VideoError as error:
        return Strip(None, error.reason)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(frames, axis=1)).save(buffer, "jpeg")
    return Strip("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), None)
