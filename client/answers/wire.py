"""Frames and features to what may be sent, tensors that came back to predictions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reelkind.core import specs, tensors
from reelkind.core.disagreeing import disagreement
from reelkind.core.taxonomy.classes import subcategory_names
from reelkind.core.taxonomy.subcategories import likeliest

from ..transport.errors import ContractMismatch, RequestRejected, RequestTooLarge, ServerFailed
from ..transport.transport import Array
from .handshake import ANSWER_NAMES, FRAMES_NAME, SUBCATEGORIES_NAME, ServerInfo
from .prediction import Prediction

Frames = npt.NDArray[np.uint8]


def as_batch(frames: npt.ArrayLike) -> Frames:
    """Frames of one or several videos to uint8 [B, T, H, W, 3].

    Raises:
        RequestRejected: if they are no frames.
    """
    try:
        array = np.asarray(frames)  # refuses frames of different sizes
        batch = array[None] if array.ndim == len(tensors.FRAMES.shape) - 1 else array
        tensors.FRAMES.check(batch)
    except ValueError as error:
        raise RequestRejected(f"{error} (or one video without the axis B)") from None
    return batch


def check_request(inputs: Mapping[str, Array], info: ServerInfo, max_bytes: int) -> dict[str, Array]:
    """The tensors, contiguous, if they are what the model takes and fit into one request.

    Raises:
        RequestRejected: if they are other tensors than the model takes.
        RequestTooLarge: if they are too many or too large.
    """
    wanted = info.inputs
    if set(inputs) != set(wanted):
        given = ", ".join(inputs) or "nothing"
        raise RequestRejected(f"the model {info.model.ensemble!r} takes {', '.join(wanted)}; given: {given}")
    for name, array in inputs.items():
        try:
            wanted[name].check(array)
        except ValueError as error:
            raise RequestRejected(str(error)) from None
    sizes = {size_of(name, array) for name, array in inputs.items()}
    if len(sizes) > 1:
        raise RequestRejected(f"{', '.join(inputs)} are not of the same videos: (B, T) is {sorted(sizes)}")
    ((num_videos, num_frames),) = sizes
    if num_videos > info.max_batch:
        raise RequestTooLarge(f"{num_videos} videos in one request, the server takes {info.max_batch}: send them apart")
    if num_frames > specs.MAX_FRAMES:
        raise RequestTooLarge(f"{num_frames} frames of a video, at most {specs.MAX_FRAMES}: choose some of them")
    num_bytes = sum(array.nbytes for array in inputs.values())
    if num_bytes > max_bytes:
        size = f"{info.frame_size_px}x{info.frame_size_px}"
        way_out = f"scale them to {size} first, or send fewer" if tensors.FRAMES.name in inputs else "send fewer"
        raise RequestTooLarge(f"{num_bytes / 2**20:.0f} MiB in one request, at most {max_bytes >> 20} MiB: {way_out}")
    return {name: np.ascontiguousarray(array) for name, array in inputs.items()}


def size_of(name: str, array: Array) -> tuple[int, int]:
    """How many videos of how many frames an input holds: B and T."""
    axis = (tensors.FRAMES if name == tensors.FRAMES.name else tensors.ANY_FEATURES).shape.index("T")
    return array.shape[0], array.shape[axis]


def check_times(times_ms: npt.ArrayLike | None, num_frames: int) -> npt.NDArray[np.int64] | None:
    """Times as int64 [T].

    Raises:
        RequestRejected: if they are no numbers, or not those of ``num_frames`` frames.
    """
    if times_ms is None:
        return None
    try:
        times = np.asarray(times_ms, np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise RequestRejected(f"times_ms are no whole numbers of milliseconds: {error}") from None
    if times.shape != (num_frames,):
        raise RequestRejected(
            f"times_ms has shape {list(times.shape)}, required is one time for each of the {num_frames} frames"
        )
    return times


@dataclass(frozen=True)
class Response:
    """Parsed response, all float32.

    Probabilities [B, K], attention [B, T], embedding [B, E], frames' probabilities [B, T, K], subcategories [B, 46].
    """

    probabilities: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    frames: npt.NDArray[np.float32] | None = None
    subcategories: npt.NDArray[np.float32] | None = None


def read_answer(found: Mapping[str, Any], size: tuple[int, int], info: ServerInfo) -> Response:
    """Check a response to ``size`` = (B, T) videos of frames.

    Raises:
        ContractMismatch: if tensors are of another shape.
        ServerFailed: if they are not numbers.
    """
    probabilities, attention, embedding = (found[name] for name in ANSWER_NAMES)
    finer = None if info.model.subcategories_learnt is None else found.get(SUBCATEGORIES_NAME)
    frames = found[FRAMES_NAME] if info.tells_frames else None
    told = [array for array in (probabilities, attention, embedding, frames, finer) if array is not None]
    num_videos, num_frames = size
    fits = (
        probabilities.shape == (num_videos, len(info.classes))
        and attention.shape == (num_videos, num_frames)
        and embedding.ndim == 2
        and len(embedding) == num_videos
        and (frames is None or frames.shape == (num_videos, num_frames, len(info.classes)))
        and (finer is None or finer.shape == (num_videos, len(subcategory_names())))
        and all(array.dtype == np.float32 for array in told)
    )
    if not fits:
        shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in found.items())
        raise ContractMismatch(f"{info.url} answered {shapes} for {num_videos} videos of {num_frames} frames")
    if not all(np.isfinite(array).all() for array in (probabilities, frames, finer) if array is not None):
        raise ServerFailed(f"the server at {info.url} answered with probabilities that are not numbers")
    return Response(probabilities, attention, embedding, frames, finer)


@dataclass(frozen=True)
class Threshold:
    """A confidence below which no label is given.

    Attributes:
        confidence: 0 .. 1; above 1 if no confidence was found to be enough.
        asked_for: whether the caller chose it, not who measured the model.
    """

    confidence: float
    asked_for: bool = False

    def reason(self, confidence: float) -> str | None:
        """Why there is no label at this confidence; None if there is one."""
        if confidence >= self.confidence:
            return None
        if self.confidence > 1:
            return "no confidence was high enough for this model's validation clips"
        origin = "asked for" if self.asked_for else "chosen on validation clips"
        return f"confidence {confidence:.3f} is below {self.confidence:.3f}, the threshold {origin}"


@dataclass(frozen=True)
class About:
    """What a prediction says beside the model's answer.

    Attributes:
        path: the file.
        times_ms: int64 [T], of the frames.
        timings_ms: of the work.
    """

    path: str | None = None
    times_ms: npt.NDArray[np.int64] | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)


def predictions(answer: Response, info: ServerInfo, threshold: Threshold | None, about: About) -> Sequence[Prediction]:
    """One prediction a video of the batch; ``about`` holds for all of them."""
    found = []
    nothing: Iterable[None] = [None] * len(answer.probabilities)
    frames = nothing if answer.frames is None else answer.frames
    finer = nothing if answer.subcategories is None else answer.subcategories
    rows = zip(answer.probabilities, answer.attention, answer.embedding, frames, finer, strict=True)
    for row, attention, embedding, frame_scores, subcategories in rows:
        confidence = float(np.max(row))
        reason = threshold.reason(confidence) if threshold else None
        label = info.classes[int(np.argmax(row))] if reason is None else None
        found.append(
            Prediction(
                path=about.path,
                label=label,
                confidence=confidence,
                reason=reason,
                scores={name: float(score) for name, score in zip(info.classes, row, strict=True)},
                attention=attention,
                times_ms=about.times_ms,
                embedding=embedding,
                timings_ms=about.timings_ms,
                model=info.model,
                frame_scores=frame_scores,
                warnings=() if frame_scores is None else _warnings(frame_scores, info.classes),
                **_finer(subcategories, label, info.model.subcategories_learnt or ()),
            )
        )
    return found


def with_stand_ins(answer: Prediction, num_stand_ins: int) -> Prediction:
    """An answer that warns of so many key frames in the place of others; the same if there are none."""
    if not num_stand_ins:
        return answer
    sentence = (
        f"{num_stand_ins} of {len(answer.attention)} frames are key frames before their instants, where exact ones "
        "take long to decode (seek='exact', --seek exact)"
    )
    return replace(answer, warnings=(*answer.warnings, sentence))


def _warnings(frame_scores: npt.NDArray[np.float32], classes: Sequence[str]) -> tuple[str, ...]:
    """What to know before one label is taken for the whole video."""
    shares = [f"{classes[number]} {share:.0%}" for number, share in disagreement(frame_scores)]
    if not shares:
        return ()
    return (f"frames disagree ({', '.join(shares)} of them): a timeline tells which kind is shown when",)


def _finer(probabilities: npt.NDArray[np.float32] | None, label: str | None, learnt: Sequence[str]) -> dict[str, Any]:
    """What a prediction says of subcategories."""
    if probabilities is None:
        return {}
    named = None if label is None else likeliest(probabilities, label, learnt)
    return {
        "subcategory": named and named[0],
        "subcategory_confidence": named and named[1],
        "subcategories": dict(zip(subcategory_names(), probabilities.tolist(), strict=True)),
    }
