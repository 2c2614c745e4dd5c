"""An open picture stream to the frames on screen at given instants, decoding as little as that takes."""

from __future__ import annotations

import logging
import math
import os
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from reelkind.core.errors import VideoError

from .container import check_size, damage, frame_step, is_matroska, packets_of, time_base

logger = logging.getLogger(__name__)

MISSING_TAIL = Fraction(1, 10)  # share of the promised duration that may be absent before a file counts as cut off
MISSING_TAIL_MIN_S = 1  # ... and never less than this: audio often outlasts the last frame by part of a second
BLIND_SEEK_MARGIN_S = 5  # without a keyframe index, seek this much too early, so that a keyframe comes in time
STAND_IN_REACH = Fraction(1, 6)  # share of the duration; a short clip with one keyframe is not one picture
LOOK_AHEAD = 16  # packets; H.264 reorders by at most 16 frames, so the frame that replaces another is usually seen


@dataclass(frozen=True)
class Picture:
    """A decoded frame.

    Attributes:
        pts: its presentation time in ticks, which is always known.
        frame: the pixels.
        is_last: whether the pictures end with it, in answers of ``pictures_at``.
        until: where the next one takes its place, in answers of ``pictures_at``; None of the last and of stand-ins.
        stands_in: whether it is a key frame before the one on screen, in answers of ``pictures_at``.
    """

    pts: int
    frame: VideoFrame
    is_last: bool = False
    until: int | None = None
    stands_in: bool = False


def pictures_at(
    path: str | os.PathLike[str],
    container: InputContainer,
    stream: VideoStream,
    targets: Sequence[int],
    start: int,
    duration: int,
    exact_pixels: float = math.inf,
) -> Iterator[Picture]:
    """The picture on screen at each of the ascending ``targets``: the last with a timestamp at or before it.

    Once ``exact_pixels`` have been decoded, the last key frame before a target stands in for it, if it is not more than
    ``STAND_IN_REACH`` of the duration before it: what follows it is not decoded.

    Raises:
        VideoError: if nothing can be decoded, or the pictures end well before ``start + duration``.
    """
    seeker = _Seeker(path, container, stream, start)
    num_pixels, reach = 0, int(duration * STAND_IN_REACH)
    decoded = _decode(path, container, stream, targets)

    def following() -> Picture | None:
        nonlocal num_pixels
        picture = next(decoded, None)
        num_pixels += picture.frame.width * picture.frame.height if picture else 0
        return picture

    current: Picture | None = None
    upcoming = following()
    at_keyframe = True  # whether ``upcoming`` is the last key frame, and nothing after it was decoded
    for target in targets:
        lost = False
        while upcoming is not None and seeker.worthwhile(upcoming.pts, target):
            seeker.seek(target)
            decoded = _decode(path, container, stream, targets, from_keyframe=True)
            position, keyframe = upcoming.pts, following()
            lost = keyframe is None or keyframe.pts > target
            seeker.learn(keyframe, position, target)
            if not lost:
                current, upcoming, at_keyframe = None, keyframe, True
                break
        if lost:  # the index lied, or there is none: read through from the start
            seeker.rewind()
            decoded = _decode(path, container, stream, targets)
            current, upcoming, at_keyframe = None, following(), False
        if at_keyframe and upcoming is not None and num_pixels > exact_pixels and target - upcoming.pts <= reach:
            yield replace(upcoming, stands_in=upcoming.pts < target)
            continue
        at_keyframe = False
        while upcoming is not None and (current is None or upcoming.pts <= target):
            current, upcoming = upcoming, following()
        if current is None:
            raise VideoError(path, "no frame could be decoded: the file is damaged or cut off")
        if upcoming is None:
            _refuse_cut_off(path, stream, current, start, duration)
            current = replace(current, is_last=True)
        yield current if upcoming is None else replace(current, until=upcoming.pts)


def _refuse_cut_off(
    path: str | os.PathLike[str], stream: VideoStream, last: Picture, start: int, duration: int
) -> None:
    tick = time_base(stream)
    end = max(0, last.pts + (last.frame.duration or 0) - start)
    allowed = max(duration * MISSING_TAIL, MISSING_TAIL_MIN_S / tick)
    if stream.frames != 1 and duration - end > allowed:
        raise VideoError(
            path,
            f"cut off: pictures end after {float(end * tick):.1f} s of the "
            f"{float(duration * tick):.1f} s its header promises",
        )


class _Seeker:
    """Decides from the container's keyframe index when a seek saves decoding; without an index, from distance."""

    def __init__(
        self, path: str | os.PathLike[str], container: InputContainer, stream: VideoStream, start: int
    ) -> None:
        self._path = path
        self._container = container
        self._stream = stream
        self._start = start
        self._usable = True
        if is_matroska(container):  # it reads its index on the first seek
            self.rewind()
        entries = stream.index_entries
        self._indexed = len(entries) > 1
        self._keyframes = [entry.timestamp for entry in entries if entry.is_keyframe] if self._indexed else []
        # Indexes hold decoding times; the first picture's distance to its presentation time aligns them.
        self._shift = start - entries[0].timestamp if self._indexed else 0
        self._margin = int(BLIND_SEEK_MARGIN_S / time_base(stream))

    def worthwhile(self, position: int, target: int) -> bool:
        """Whether jumping from the next undecoded ``position`` skips at least one keyframe interval."""
        if not self._usable or target <= position:
            return False
        if self._indexed:
            keyframe = self._keyframe_before(target)
            return keyframe is not None and keyframe + self._shift > position
        return target - position > 2 * self._margin

    def seek(self, target: int) -> None:
        keyframe = self._keyframe_before(target)
        goal = target - self._margin if keyframe is None else keyframe + self._shift
        try:
            self._container.seek(goal, stream=self._stream, backward=True)
        except (FFmpegError, OSError) as error:
            logger.debug("%s: cannot seek: %s", self._path, error)
            self._usable = False

    def learn(self, landed: Picture | None, position: int, target: int) -> None:
        """After a seek: one that came too late corrects the next; one that gained nothing ends seeking."""
        if landed is None or landed.pts < position:
            self._usable = False
        elif landed.pts > target and not self._indexed:
            self._margin *= 4
        elif landed.pts > target:
            # Open groups of pictures: their keyframes are shown later after decoding than the first one.
            shift = landed.pts - (self._keyframe_before(target) or 0)
            self._usable = shift > self._shift
            self._shift = shift

    def _keyframe_before(self, target: int) -> int | None:
        before = bisect_right(self._keyframes, target - self._shift)
        return self._keyframes[before - 1] if before else None

    def rewind(self) -> None:
        try:
            self._container.seek(self._start, stream=self._stream, backward=True)
        except (FFmpegError, OSError) as error:
            raise VideoError(self._path, damage(error)) from error


def _decode(
    path: str | os.PathLike[str],
    container: InputContainer,
    stream: VideoStream,
    targets: Sequence[int],
    *,
    from_keyframe: bool = False,
) -> Iterator[Picture]:
    """Pictures from the present position, without some that no target shows.

    Damaged packets are passed over; if too many are, the pictures end early and that is reported.
    """
    # One packet is one frame in these containers, and H.264 marks frames that no other frame needs.
    frugal = stream.codec_context.name == "h264" and (is_matroska(container) or "mp4" in container.format.name)
    last: int | None = None
    for packet, shown in _look_ahead(_packets(container, stream, from_keyframe), targets):
        if frugal:
            stream.codec_context.skip_frame = "DEFAULT" if shown else "NONREF"
        try:
            frames = packet.decode()
        except MemoryError:  # not the packet's fault alone: the next ones would want as much
            raise
        except FFmpegError as error:
            logger.debug("packet passed over: %s", error)
            continue
        for frame in frames:
            check_size(path, frame.width, frame.height)
            if frame.pts is not None:
                last = frame.pts
            else:  # raw streams carry no timestamps
                last = (stream.start_time or 0) if last is None else last + frame_step(stream)
            yield Picture(last, frame)


def _packets(container: InputContainer, stream: VideoStream, from_keyframe: bool) -> Iterator[Packet[VideoStream]]:
    try:
        for packet in packets_of(container, stream):
            from_keyframe = from_keyframe and not packet.is_keyframe
            if not from_keyframe:
                yield packet
    except FFmpegError as error:
        logger.debug("packets end early: %s", error)


def _look_ahead(
    packets: Iterator[Packet[VideoStream]], targets: Sequence[int]
) -> Iterator[tuple[Packet[VideoStream], bool]]:
    """Each packet, and False where a later frame takes its place on the screen before the next target."""
    ahead: deque[Packet[VideoStream]] = deque()
    for packet in packets:
        ahead.append(packet)
        if len(ahead) > LOOK_AHEAD:
            yield ahead[0], _may_be_shown(ahead, targets)
            ahead.popleft()
    while ahead:
        yield ahead[0], _may_be_shown(ahead, targets)
        ahead.popleft()


def _may_be_shown(ahead: deque[Packet[VideoStream]], targets: Sequence[int]) -> bool:
    pts = ahead[0].pts
    if pts is None:
        return True
    following = bisect_left(targets, pts)
    if following == len(targets):
        return True
    return not any(packet.pts is not None and pts < packet.pts <= targets[following] for packet in ahead)
