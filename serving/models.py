"""A model repository to its models: their names, configurations and an input that each ensemble accepts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from reelkind.core import tensors

from .errors import ServingError


def ensemble_configs(repository: Path, wanted: Sequence[str] | None = None) -> dict[str, Any]:
    """ModelConfigs of the wanted ensembles, or of all there are, by name.

    Raises:
        ServingError: if the repository holds no models, or lacks a wanted ensemble.
    """
    paths = sorted(repository.glob("*/config.pbtxt"))
    if not paths:
        raise ServingError(f"no models in {repository}: no folder there has a config.pbtxt")
    configs = [_read_config(path) for path in paths]
    found = {config.name: config for config in configs if config.platform == "ensemble"}
    names = tuple(found) if wanted is None else tuple(wanted)
    for name in names or ("at all",):
        if name not in found:
            raise ServingError(f"no ensemble {name} in {repository} (it has: {', '.join(found) or 'none'})")
    return {name: found[name] for name in names}


def _read_config(path: Path) -> Any:
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path} is not a model configuration: {error}") from error
    config.name = config.name or path.parent.name  # may be left out, tritonserver takes the folder's
    return config


def canary_feeds(config: Any, num_frames: int | None = None) -> dict[str, np.ndarray]:
    """Zeros for one video that fit an ensemble's inputs.

    Args:
        config: the ensemble's ModelConfig; ``num_frames`` and ``frame_size_px`` are read from its parameters.
        num_frames: T, if not the ensemble's own.
    """
    size = int(config.parameters["frame_size_px"].string_value or 224)
    frames = num_frames or int(config.parameters["num_frames"].string_value or 16)
    lengths = {"B": 1, "V": 1, "T": frames, "H": size, "W": size}
    feeds = {}
    for spec in config.input:
        known = tensors.FRAMES if spec.name == tensors.FRAMES.name else tensors.features(spec.dims[-1])
        shape = [axis if isinstance(axis, int) else lengths[axis] for axis in known.shape]
        dtype = model_config_pb2.DataType.Name(spec.data_type).removeprefix("TYPE_")
        feeds[spec.name] = np.zeros(shape, triton_to_np_dtype(dtype))
    return feeds
