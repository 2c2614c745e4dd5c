"""Short videos of known worth, any number of them: most are good, some are bad in one of several ways."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np

from reelkind.benchmarks.labelled_clips import sample_paths

SIZE_PX = (320, 180)  # width, height
SECONDS = 2
FPS = 15
NUM_LOOKS = 8  # of each sample: other seconds, brighter or darker
GOOD, BAD = "good", "bad"  # how their names begin

_BAD: tuple[Callable[[bytes], bytes], ...] = (
    lambda video: b"",
    lambda video: b"this is a text, whatever it is called\n",
    lambda video: video[: len(video) // 8],  # without the index, which comes last
    lambda video: bytes(len(video)),
)


def make(folder: Path, num_videos: int, bad_share: float) -> list[Path]:
    """Write them; no two good ones have the same content.

    Args:
        folder: made here.
        num_videos: in all.
        bad_share: of them that are no videos, spread evenly.

    Returns:
        Their paths, in order.
    """
    folder.mkdir(parents=True)
    looks = list(_looks())
    paths, num_bad = [], 0
    for number in range(num_videos):
        is_bad = int((number + 1) * bad_share) > num_bad
        video = looks[number % len(looks)]
        path = folder / f"{BAD if is_bad else GOOD}_{number:06d}.mp4"
        path.write_bytes(_BAD[num_bad % len(_BAD)](video) if is_bad else video + free_box(number))
        num_bad += is_bad
        paths.append(path)
    return paths


def _looks() -> Iterator[bytes]:
    for look in range(NUM_LOOKS):
        for path in sample_paths():
            with av.open(str(path)) as source:
                stream = source.streams.video[0]
                every = max(1, round(float(stream.average_rate or FPS) / FPS))
                wanted = islice(source.decode(video=0), 3 * look, None, every)
                pictures = [
                    frame.reformat(*SIZE_PX, format="rgb24").to_ndarray() for frame in islice(wanted, SECONDS * FPS)
                ]
            yield _encoded(np.stack(pictures), 0.7 + 0.08 * look)


def _encoded(pictures: np.ndarray, gain: float) -> bytes:
    """H.264 in MP4 of uint8 RGB [T, H, W, 3]."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        for picture in pictures:
            shown = np.clip(picture * gain, 0, 255).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        output.mux(stream.encode(None))
    return target.getvalue()


def free_box(number: int) -> bytes:
    """Bytes at the end of an MP4 that every reader skips."""
    text = f"{number:016d}".encode()
    return (len(text) + 8).to_bytes(4, "big") + b"free" + text
