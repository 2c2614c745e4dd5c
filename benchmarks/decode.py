"""The frames of a clip out of videos, by reelkind and by other libraries: milliseconds, and how many were wrong.

Asked are the frames on screen in the middles of T equal parts, scaled to 224 x 224. The videos say which frame is which
(``numbered_video``), so a reader that is quick and wrong is seen to be. Readers take turns; the file is in the page
cache for all of them after the first.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks import environment
from reelkind.benchmarks.numbered_video import FPS, Made, expected_numbers, make, middles, read_numbers
from reelkind.benchmarks.reports import Row, conditions, number, spread, table
from reelkind.core.errors import ReelkindError
from reelkind.core.files.user_cache import user_cache
from reelkind.core.timing.clips import AUTO, FRAME_SIZE_PX, KEYFRAMES
from reelkind.video import clip as video

Progress = Callable[[str], None]
Read = Callable[[Path, int], np.ndarray]
"""A video and T to uint8 RGB [T, S, S, 3]."""

OURS = "reelkind"
PATIENCE_S = 30.0  # a reader that has taken so long over a video is not asked to repeat it

QUICK = (
    Made("h264", 540, 10, 10),
    Made("h264", 540, 300, 10),
    Made("hevc", 540, 10, 10),
    Made("av1", 540, 10, 10),
    Made("h264", 1080, 10, 10),
)

ALL = (
    *(Made("h264", height, seconds, gop) for height in (540, 1080, 2160) for seconds in (10, 300) for gop in (1, 10)),
    *(Made(codec, 1080, seconds, 10) for codec in ("hevc", "vp9", "av1") for seconds in (10, 300)),
    *(Made(codec, 2160, 300, 10) for codec in ("hevc", "vp9", "av1")),
    *(Made("h264", 540, 7200, gop) for gop in (1, 10)),
)


class ReadersError(ReelkindError):
    """Nobody is called so."""


def reelkind(path: Path, num_frames: int) -> np.ndarray:
    """Ours: by presentation time, with seeks where they pay."""
    return video.read_clip(path, num_frames=num_frames, size_px=FRAME_SIZE_PX).frames


def reelkind_keyframes(path: Path, num_frames: int) -> np.ndarray:
    """Key frames stand in where they come up between two instants."""
    return video.read_clip(path, num_frames=num_frames, size_px=FRAME_SIZE_PX, seek=KEYFRAMES).frames


def reelkind_auto(path: Path, num_frames: int) -> np.ndarray:
    """The same once some seconds have been spent."""
    return video.read_clip(path, num_frames=num_frames, size_px=FRAME_SIZE_PX, seek=AUTO).frames


def opencv_through(path: Path, num_frames: int) -> np.ndarray:
    """Every frame is decoded, the chosen ones are converted."""
    import cv2

    capture, chosen = _opened(path), []
    wanted = middles(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), num_frames)
    for index in range(wanted[-1] + 1):
        if not capture.grab():
            break
        chosen += [_opencv_square(capture.retrieve()[1])] * wanted.count(index)
    capture.release()
    return np.stack(chosen)


def opencv_seek(path: Path, num_frames: int) -> np.ndarray:
    """CAP_PROP_POS_FRAMES, then read."""
    import cv2

    capture, chosen = _opened(path), []
    for index in middles(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), num_frames):
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        there, frame = capture.read()
        if there:
            chosen.append(_opencv_square(frame))
    capture.release()
    return np.stack(chosen)


def _opened(path: Path) -> Any:
    import cv2

    capture = cv2.VideoCapture(os.fspath(path))
    if not capture.grab():
        raise ReadersError("it reads no frame of this codec")
    capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    return capture


def _opencv_square(frame: np.ndarray) -> np.ndarray:
    import cv2

    small = cv2.resize(frame, (FRAME_SIZE_PX, FRAME_SIZE_PX), interpolation=cv2.INTER_AREA)
    picture: np.ndarray = cv2.cvtColor(small, cv2.COLOR_BGR2RGB)
    return picture


def pyav(path: Path, num_frames: int) -> np.ndarray:
    """For each instant a seek to the keyframe before it, and decoding from there."""
    import av

    chosen = []
    with av.open(os.fspath(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        tick = stream.time_base
        assert tick is not None
        for index in middles(stream.frames, num_frames):
            wanted = round(index / FPS / tick)
            container.seek(wanted, stream=stream)
            frame = next(each for each in container.decode(stream) if each.pts is not None and each.pts >= wanted)
            chosen.append(frame.reformat(FRAME_SIZE_PX, FRAME_SIZE_PX, "rgb24", interpolation="AREA").to_ndarray())
    return np.stack(chosen)


def decord(path: Path, num_frames: int) -> np.ndarray:
    """A VideoReader that scales, and a batch."""
    from decord import VideoReader

    reader = VideoReader(os.fspath(path), width=FRAME_SIZE_PX, height=FRAME_SIZE_PX)
    frames: np.ndarray = reader.get_batch(middles(len(reader), num_frames)).asnumpy()
    return frames


def torchcodec(path: Path, num_frames: int, seek_mode: str = "exact") -> np.ndarray:
    """A VideoDecoder with as many threads as FFmpeg likes, and a batch, scaled by PyTorch."""
    import torch
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, seek_mode=seek_mode, num_ffmpeg_threads=0)
    batch = decoder.get_frames_at(middles(len(decoder), num_frames)).data  # [T, 3, H, W]
    size = (FRAME_SIZE_PX, FRAME_SIZE_PX)
    small = torch.nn.functional.interpolate(batch.float(), size, mode="area")
    frames: np.ndarray = small.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return frames


def torchcodec_approximate(path: Path, num_frames: int) -> np.ndarray:
    """The same without the first pass over the file that makes seeks exact."""
    return torchcodec(path, num_frames, "approximate")


READERS: dict[str, Read] = {
    OURS: reelkind,
    "reelkind --seek auto": reelkind_auto,
    "reelkind --seek keyframes": reelkind_keyframes,
    "opencv, read through": opencv_through,
    "opencv, seek": opencv_seek,
    "pyav": pyav,
    "decord": decord,
    "torchcodec": torchcodec,
    "torchcodec, approximate": torchcodec_approximate,
}


def measure(
    *,
    quick: bool,
    num_frames: int,
    repeats: int,
    wanted: Sequence[str] | None = None,
    folder: Path | None = None,
    videos: Sequence[Made] | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """A report of all readers and videos.

    Args:
        quick: short and small videos only.
        num_frames: T.
        repeats: of each reader and video, of which the first counts too: it is what a user meets.
        wanted: names of ``READERS``; all by default.
        folder: where the videos are kept.
        videos: instead of ``QUICK`` or ``ALL``.
        progress: called with one line at each step.

    Raises:
        ReadersError: if ``wanted`` names somebody else.
    """
    unknown = sorted(set(wanted or ()) - READERS.keys())
    if unknown:
        raise ReadersError(f"no reader is called {', '.join(unknown)} (there are: {', '.join(READERS)})")
    readers = {name: read for name, read in READERS.items() if not wanted or name in wanted or name == OURS}
    machine = environment.describe()
    rows: list[Row] = []
    for made in videos or (QUICK if quick else ALL):
        began = time.perf_counter()
        try:
            path = make(made, folder or user_cache("bench-videos"))
        except Exception as error:  # this FFmpeg lacks an encoder
            rows.append(_about(made) | {"name": "all", "reason": f"the video cannot be made: {error}"})
            continue
        _warm(path)
        if (taken := time.perf_counter() - began) > 1:
            progress(f"{path.name} made in {taken:.0f} s")
        rows += measure_video(made, path, readers, num_frames, repeats)
        progress(f"{path.name} read")
    return {
        "what": "choosing and decoding the frames of a clip, milliseconds, and how many frames were wrong",
        "environment": machine | {"frames": num_frames, "size_px": FRAME_SIZE_PX},
        "plan": {"repeats": repeats, "quick": quick},
        "rows": rows,
    }


def measure_video(made: Made, path: Path, readers: Mapping[str, Read], num_frames: int, repeats: int) -> list[Row]:
    """A row a reader."""
    expected = expected_numbers(made.num_frames, num_frames)
    times: dict[str, list[float]] = {name: [] for name in readers}
    wrong: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for repeat in range(repeats):
        for name in list(readers)[:: 1 if repeat % 2 else -1]:
            if name in reasons or sum(times[name]) > 1000 * PATIENCE_S:
                continue
            began = time.perf_counter()
            try:
                frames = readers[name](path, num_frames)
            except Exception as error:  # whatever a library of somebody else's raises becomes its row
                lines = str(error).strip().splitlines() or [""]
                reasons[name] = f"cannot read it here: {type(error).__name__}: {lines[0][:160]}"
                continue
            times[name].append(1000 * (time.perf_counter() - began))
            found = read_numbers(frames)
            misses = sum(a != b for a, b in zip(found, expected, strict=False)) + abs(len(expected) - len(found))
            wrong[name] = max(wrong.get(name, 0), misses)
    rows = []
    for name in readers:
        row = _about(made) | {"name": name}
        if name in reasons:
            rows.append(row | {"reason": reasons[name]})
            continue
        middle = spread(times[name])
        row |= {"ms": middle["median"], "ms_low": middle["low"], "ms_high": middle["high"]}
        row |= {"wrong_frames": wrong[name], "frames": num_frames, "repeats": len(times[name])}
        if times.get(OURS):
            row["this_to_reelkind"] = round(middle["median"] / statistics.median(times[OURS]), 3)
        rows.append(row)
    return rows


def _about(made: Made) -> Row:
    return {"codec": made.codec, "height_px": made.height_px, "seconds": made.seconds, "gop_s": made.gop_s}


def _warm(path: Path) -> None:
    """Into the page cache, as far as it holds."""
    with path.open("rb") as file:
        while file.read(2**24):
            pass


def page(report: Mapping[str, Any]) -> str:
    """The report, Markdown."""
    where = report["environment"]
    parts = [
        "# Frames out of videos",
        f"{where['frames']} frames of {where['size_px']} px, the middles of equal parts; milliseconds, medians of at "
        f"most {report['plan']['repeats']} repeats. `x` is the reader's time divided by reelkind's. **Wrong** are "
        "frames other than those on screen at the instants asked for.",
        decode_table(report["rows"]),
        "## Environment",
        conditions(where),
    ]
    return "\n\n".join(parts) + "\n"


def decode_table(rows: Sequence[Row]) -> str:
    """A line a video and reader, Markdown."""
    cells = []
    for row in rows:
        about = f"{row['codec']} {row['height_px']}p, {_length(row['seconds'])}, keyframe every {row['gop_s']} s"
        if "reason" in row:
            cells.append((about, row["name"], row["reason"], "", ""))
            continue
        took = f"{number(row['ms'])} ({number(row['ms_low'])} .. {number(row['ms_high'])})"
        wrong = f"**{row['wrong_frames']} of {row['frames']}**" if row["wrong_frames"] else "0"
        cells.append((about, row["name"], took, number(row.get("this_to_reelkind")), wrong))
    return table(("video", "by", "ms", "x", "wrong"), cells)


def _length(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds / 3600:g} h"
