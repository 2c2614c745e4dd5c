"""Features to a safetensors file and back.

    features_<member>   float32 [V, T, D]   one a member, V views (spatial), T frames
    times_ms            int64 [T]           where in the video each frame was

The file's metadata hold the ``Recipe`` (what the numbers depend on besides the video), the ``Source`` and a digest of
everything, so that features of other weights, of another video or of a damaged disk are never taken for the right ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from ..features import RULE_VERSION, STREAM, Features, FeaturesError, Recipe, Source, tensor_name
from ..timing.clips import EXACT
from .whole_files import write_whole

FORMAT_VERSION = "1"
SUFFIX = ".features.safetensors"
_TIMES = "times_ms"
MIN_RATE, MAX_RATE = 0.001, 1000.0  # video.clip's, without FFmpeg


def is_features_file(path: str | os.PathLike[str]) -> bool:
    """Whether a path is named as features files are."""
    return os.fspath(path).endswith(SUFFIX)


def save(features: Features, path: str | os.PathLike[str]) -> None:
    """Write a features file whole or not at all, over one that is there.

    Raises:
        OSError: if it cannot be written.
    """
    write_whole(Path(path), to_bytes(features))


def load(path: str | os.PathLike[str]) -> Features:
    """Read a features file.

    Raises:
        FeaturesError: if it is missing, damaged or of another format.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise FeaturesError(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(path)) from error
    try:
        return from_bytes(data)
    except FeaturesError as error:
        raise FeaturesError(error.reason, str(path)) from error


def to_bytes(features: Features) -> bytes:
    """The contents of a features file."""
    tensors: dict[str, np.ndarray] = {_TIMES: features.times_ms}
    tensors |= {tensor_name(member): np.ascontiguousarray(array) for member, array in features.arrays.items()}
    metadata = {
        "format_version": FORMAT_VERSION,
        **features.recipe.describe(),
        "source_name": features.source.name,
        "source_sha256": features.source.sha256,
        "source_num_bytes": str(features.source.num_bytes),
        "duration_ms": str(features.duration_ms),
        **({"num_stand_ins": str(features.num_stand_ins)} if features.num_stand_ins else {}),
    }
    return safetensors.numpy.save(tensors, {**metadata, "digest": _digest(metadata, tensors)})


def from_bytes(data: bytes) -> Features:
    """The features in a file's contents.

    Raises:
        FeaturesError: if they are damaged, or of another format or rule.
    """
    metadata, tensors = _unpack(data)
    for name, known in (("format_version", FORMAT_VERSION), ("rule_version", RULE_VERSION)):
        if metadata.get(name) != known:
            raise FeaturesError(f"{name} is {metadata.get(name)}, this release has {known}: extract again")
    if metadata.pop("digest", None) != _digest(metadata, tensors):
        raise FeaturesError("the file is damaged: its digest does not fit: extract again")
    try:
        features = _read(metadata, tensors)
    except (KeyError, ValueError) as error:
        raise FeaturesError(f"not written by this release: {error}: extract again") from error
    _check_shapes(features)
    return features


def _check_shapes(features: Features) -> None:
    """Files may come from anywhere.

    Raises:
        FeaturesError: if they are not those of ``Features``.
    """
    times_ms, recipe = features.times_ms, features.recipe
    if len(recipe.members) != len(recipe.weights):
        raise FeaturesError(f"weights of {len(recipe.weights)} members, not of {len(recipe.members)}")
    if times_ms.dtype != np.int64 or times_ms.ndim != 1 or not times_ms.size:
        raise FeaturesError(f"times_ms is {times_ms.dtype}{list(times_ms.shape)}, not int64 [T]")
    for member, array in features.arrays.items():
        if array.dtype != np.float32 or array.ndim != 3 or array.shape[:2] != (len(recipe.views), times_ms.size):
            raise FeaturesError(f"{tensor_name(member)} is {array.dtype}{list(array.shape)}, not float32 [V, T, D]")
    if recipe.kind == STREAM and not MIN_RATE <= recipe.rate <= MAX_RATE:
        raise FeaturesError(f"features of a stream need a rate from {MIN_RATE:g} to {MAX_RATE:g}, got {recipe.rate}")


def _read(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> Features:
    recipe = Recipe(
        kind=metadata["kind"],
        members=tuple(metadata["members"].split(",")),
        weights=tuple(metadata["weights"].split(",")),
        views=tuple(metadata["views"].split(",")),
        num_frames=int(metadata["num_frames"]),
        frame_size_px=int(metadata["frame_size_px"]),
        rate=float(metadata["rate"]),
        seek=metadata.get("seek", EXACT),
    )
    source = Source(metadata["source_name"], metadata["source_sha256"], int(metadata["source_num_bytes"]))
    arrays = {member: tensors[tensor_name(member)] for member in recipe.members}
    num_stand_ins = int(metadata.get("num_stand_ins", 0))
    return Features(recipe, source, arrays, tensors[_TIMES], int(metadata["duration_ms"]), num_stand_ins)


def _unpack(data: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    try:
        tensors = safetensors.numpy.load(data)
        header = data[8 : 8 + int.from_bytes(data[:8], "little")]  # the library reads metadata of files only
        metadata: dict[str, str] = json.loads(header).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FeaturesError(f"not a features file, or damaged ({error}): extract again") from error
    if "kind" not in metadata:
        raise FeaturesError("a safetensors file, but not of features: make one with `reelkind features extract`")
    return metadata, tensors


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].data)
    return digest.hexdigest()
