"""A model repository to its models: their names, configurations and inputs that each ensemble accepts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import triton_to_np_dtype

from reelkind.core import tensors
from reelkind.core.files.whole_files import write_whole

from .errors import ServingError

_MARK = 8  # values that tell one canary from another


def ensemble_configs(repository: Path) -> dict[str, Any]:
    """ModelConfigs of all ensembles there are, by name.

    Raises:
        ServingError: if the repository holds no models, or none of them is an ensemble.
    """
    paths = sorted(repository.glob("*/config.pbtxt"))
    if not paths:
        raise ServingError(f"no models in {repository}: no folder there has a config.pbtxt")
    configs = [read_config(path) for path in paths]
    found = {config.name: config for config in configs if config.platform == "ensemble"}
    if not found:
        raise ServingError(f"no ensemble in {repository}: it has {', '.join(config.name for config in configs)}")
    return found


def read_config(path: Path) -> Any:
    """The ModelConfig in a file.

    Raises:
        ServingError: naming the file, if there is none in it.
    """
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (text_format.ParseError, OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path} is not a model configuration: {error}") from error
    config.name = config.name or path.parent.name  # may be left out, tritonserver takes the folder's
    return config


def composing_models(config: Any) -> set[str]:
    """Names of the models that an ensemble is made of."""
    return {step.model_name for step in config.ensemble_scheduling.step}


def covering(configs: Mapping[str, Any]) -> list[str]:
    """Few ensembles whose answers show that every composing model of all of them answers."""
    missing = {name: composing_models(config) for name, config in configs.items()}
    chosen: list[str] = []
    while any(missing.values()) or not chosen:
        best = max(missing, key=lambda name: len(missing[name]))  # the first of equals
        chosen.append(best)
        answered = missing.pop(best)
        missing = {name: models - answered for name, models in missing.items()}
    return chosen


def canary_feeds(config: Any, num_frames: int | None = None) -> dict[str, np.ndarray]:
    """One video that fits an ensemble's inputs: zeros, but for a mark that is never the same twice.

    Without the mark a response cache would answer for models that cannot.

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
        array = np.zeros(shape, triton_to_np_dtype(dtype))
        array.flat[:_MARK] = np.random.default_rng().integers(0, 256, min(_MARK, array.size))
        feeds[spec.name] = array
    return feeds


def allow_response_cache(repository: Path) -> None:
    """Let every ensemble of a repository of our own answer from the response cache."""
    for name in ensemble_configs(repository):
        path = repository / name / "config.pbtxt"
        config = read_config(path)
        config.response_cache.enable = True
        write_whole(path, text_format.MessageToString(config))
