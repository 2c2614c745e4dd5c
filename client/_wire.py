"""Frames to a request, a response to an answer, a model's config to what the client must know. Pure; no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from reelkind.core import specs, tensors
from reelkind.core.taxonomy import CLASSES

from ._errors import (
    ContractMismatch,
    InvalidUrl,
    ModelUnavailable,
    RequestRejected,
    RequestTooLarge,
    ServerFailed,
)
from ._prediction import ModelInfo, Prediction

MAX_REQUEST_BYTES = 1 << 29  # 512 MiB, more than the largest batch of longest clips at 224 px
EMBEDDING_NAME = tensors.embedding(1).name
OUTPUT_NAMES = (tensors.PROBABILITIES.name, tensors.ATTENTION.name, EMBEDDING_NAME)

Frames = npt.NDArray[np.uint8]

_REQUIRED = ("contract_version", "num_frames", "frame_size_px", "classes", "members", "views", "trained", "weights")


@dataclass(frozen=True)
class ServerInfo:
    """What a server said of the ensemble before the first request.

    Attributes:
        url: where it answers.
        num_frames: T it was trained with.
        frame_size_px: S; frames of this size cross the wire without being scaled again.
        max_batch: most videos in one request.
        classes: names of the probabilities, in order.
        model: which model answers.
    """

    url: str
    num_frames: int
    frame_size_px: int
    max_batch: int
    classes: tuple[str, ...]
    model: ModelInfo


def check_url(url: str) -> str:
    """Return ``url`` if it is ``host:port``.

    Raises:
        InvalidUrl: if it is not.
    """
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})", url)
    if not found or not url.isprintable() or not 1 <= int(found[2]) <= 65535:
        raise InvalidUrl(f"{url!r} is not an address: write host:port of the server's gRPC port, e.g. 127.0.0.1:8001")
    return url


def check_model_name(name: str) -> str:
    """Return ``name`` if a model can be called so.

    Raises:
        ModelUnavailable: if it is empty or holds what protobuf cannot carry or nobody can read.
    """
    if not name or not name.isprintable():
        raise ModelUnavailable(f"no model is called {name!r}: the default ensemble is {specs.DEFAULT_ENSEMBLE!r}")
    return name


def channel_args(url: str) -> list[tuple[str, Any]]:
    """Options of gRPC: messages as large as ours, and quick reconnection: a restart is over in seconds."""
    args: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", -1),  # our own limit speaks first and says more
        ("grpc.max_receive_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
    ]
    if url.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]"):
        args.append(("grpc.enable_http_proxy", 0))  # $http_proxy is not meant for this machine
    return args


def read_config(config: Any, url: str) -> ServerInfo:
    """Handshake: a Triton ``ModelConfig`` to what the client must know.

    Raises:
        ContractMismatch: if the model is no ensemble of ours, or of another release.
    """
    values = {name: value.string_value for name, value in config.parameters.items()}
    named = f"model {config.name!r} at {url}"
    version = values.get("contract_version")
    if version is not None and version != tensors.CONTRACT_VERSION:
        raise ContractMismatch(
            f"{named} speaks contract {version}, this client speaks {tensors.CONTRACT_VERSION}: "
            "use the same release of reelkind on both sides"
        )
    missing = [name for name in _REQUIRED if not values.get(name)]
    if missing:
        raise ContractMismatch(f"{named} is no ensemble of reelkind: its config lacks {', '.join(missing)}")
    _check_border(config, named)
    classes = _split(values["classes"])
    if classes != CLASSES:
        raise ContractMismatch(f"{named} tells {', '.join(classes)} apart, this client knows {', '.join(CLASSES)}")
    try:
        num_frames, frame_size_px = int(values["num_frames"]), int(values["frame_size_px"])
    except ValueError as error:
        raise ContractMismatch(f"{named} does not say how many frames of what size it takes: {error}") from error
    model = ModelInfo(
        ensemble=config.name,
        members=_split(values["members"]),
        views=_split(values["views"]),
        trained=values["trained"] == "true",
        weights=_split(values["weights"]),
    )
    return ServerInfo(url, num_frames, frame_size_px, max(1, config.max_batch_size), classes, model)


def _check_border(config: Any, named: str) -> None:
    offered = {tensor.name for tensor in config.output}
    taken = [tensor.name for tensor in config.input]
    if taken != [tensors.FRAMES.name] or not offered.issuperset(OUTPUT_NAMES):
        raise ContractMismatch(
            f"{named} takes {', '.join(taken) or 'nothing'} and gives {', '.join(sorted(offered)) or 'nothing'}; "
            f"required: {tensors.FRAMES.name} to {', '.join(OUTPUT_NAMES)}"
        )


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def as_batch(frames: npt.ArrayLike, info: ServerInfo) -> Frames:
    """Frames of one or several videos to a batch that fits into one request: uint8 [B, T, H, W, 3].

    Raises:
        RequestRejected: if they are no frames.
        RequestTooLarge: if they are too many.
    """
    try:
        array = np.asarray(frames)  # refuses frames of different sizes
        batch = array[None] if array.ndim == len(tensors.FRAMES.shape) - 1 else array
        tensors.FRAMES.check(batch)
    except ValueError as error:
        raise RequestRejected(f"{error} (or one video without the axis B)") from None
    num_videos, num_frames = batch.shape[:2]
    if num_videos > info.max_batch:
        raise RequestTooLarge(f"{num_videos} videos in one request, the server takes {info.max_batch}: send them apart")
    if num_frames > specs.MAX_FRAMES:
        raise RequestTooLarge(f"{num_frames} frames of a video, at most {specs.MAX_FRAMES}: choose some of them")
    if batch.nbytes > MAX_REQUEST_BYTES:
        raise RequestTooLarge(
            f"{batch.nbytes / 2**20:.0f} MiB of frames, at most {MAX_REQUEST_BYTES >> 20} MiB: "
            f"scale them to {info.frame_size_px}x{info.frame_size_px} first, or send fewer"
        )
    return np.ascontiguousarray(batch)


def request(batch: Frames, region: str | None = None) -> dict[str, Any]:
    """Arguments of tritonclient's ``infer``, sync or async.

    Args:
        batch: the frames, which are copied into the request unless
        region: is the name of the shared memory that they lie in.
    """
    frames = InferInput(tensors.FRAMES.name, list(batch.shape), tensors.FRAMES.wire_type)
    if region is None:
        frames.set_data_from_numpy(batch)
    else:
        frames.set_shared_memory(region, batch.nbytes)
    return {"inputs": [frames], "outputs": [InferRequestedOutput(name) for name in OUTPUT_NAMES]}


@dataclass(frozen=True)
class Answer:
    """Parsed response: probabilities [B, K], attention [B, T], embedding [B, E], all float32."""

    probabilities: npt.NDArray[np.float32]
    attention: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]


def read_answer(result: InferResult, batch: Frames, info: ServerInfo) -> Answer:
    """Check and unpack a response.

    Raises:
        ContractMismatch: if tensors are missing or of another shape.
        ServerFailed: if they are not numbers.
    """
    found = {}
    for name in OUTPUT_NAMES:
        try:
            found[name] = result.as_numpy(name)
        except (ValueError, InferenceServerException) as error:  # bytes and shape disagree
            raise ContractMismatch(f"{info.url} answered with a damaged tensor {name!r}: {error}") from error
    probabilities, attention, embedding = (found[name] for name in OUTPUT_NAMES)
    num_videos, num_frames = batch.shape[:2]
    fits = (
        probabilities is not None
        and attention is not None
        and embedding is not None
        and probabilities.shape == (num_videos, len(info.classes))
        and attention.shape == (num_videos, num_frames)
        and embedding.ndim == 2
        and len(embedding) == num_videos
    )
    if not fits:
        shapes = ", ".join(f"{name} {None if array is None else list(array.shape)}" for name, array in found.items())
        raise ContractMismatch(f"{info.url} answered {shapes} for {num_videos} videos of {num_frames} frames")
    if not np.isfinite(probabilities).all():
        raise ServerFailed(f"the server at {info.url} answered with probabilities that are not numbers")
    return Answer(probabilities, attention, embedding)


def predictions(
    answer: Answer,
    info: ServerInfo,
    *,
    timings_ms: dict[str, float],
    path: str | None = None,
    times_ms: npt.NDArray[np.int64] | None = None,
) -> Sequence[Prediction]:
    """One prediction a video of the batch; ``times_ms`` [T] holds for all of them."""
    return [
        Prediction(
            path=path,
            label=info.classes[int(np.argmax(row))],
            confidence=float(np.max(row)),
            scores={name: float(score) for name, score in zip(info.classes, row, strict=True)},
            attention=attention,
            times_ms=times_ms,
            embedding=embedding,
            timings_ms=timings_ms,
            model=info.model,
        )
        for row, attention, embedding in zip(answer.probabilities, answer.attention, answer.embedding, strict=True)
    ]
