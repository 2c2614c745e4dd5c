"""Real frames to the inputs of every model of a server: the server's own models make what later stages take."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from reelkind.core import tensors
from reelkind.core.errors import ReelkindError
from reelkind.export.parity.triton_rung import TritonModels

Feeds = dict[str, np.ndarray]
"""Input name -> array with its batch axis, of one video."""


class ModelsError(ReelkindError):
    """A server cannot be asked what it serves, or lacks a model."""


class Models:
    """The models of a running server, by their configurations.

    Args:
        url: ``host:port`` of its gRPC endpoint.

    Attributes:
        server: name and version, as it says itself.

    Raises:
        ModelsError: if it does not answer.
    """

    def __init__(self, url: str) -> None:
        self._client, self._tensors = InferenceServerClient(url), TritonModels(url)
        try:
            metadata = self._client.get_server_metadata(client_timeout=10)
            # Not the repository's index: that API opens only for a server's supervisor.
            names = {model.name for model in self._client.get_inference_statistics(client_timeout=10).model_stats}
            self._configs: dict[str, Any] = {name: self._client.get_model_config(name).config for name in sorted(names)}
        except InferenceServerException as error:
            self.close()
            raise ModelsError(f"{url} cannot be asked for its models: {error.message()}") from error
        self.server = f"{metadata.name} {metadata.version}"

    @property
    def names(self) -> list[str]:
        """Ensembles first, then what they are made of."""
        return sorted(self._configs, key=lambda name: (not self.is_ensemble(name), name))

    def is_ensemble(self, name: str) -> bool:
        """Whether a model only wires others."""
        return bool(self._configs[name].platform == "ensemble")

    def steps(self, name: str) -> list[str]:
        """Models that answer for a model: those an ensemble is made of, in their order, else itself."""
        config = self._configs[name]
        return list(dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step)) or [name]

    def parameter(self, name: str, key: str) -> str:
        """What an ensemble's configuration says of itself; empty if nothing."""
        return str(self._configs[name].parameters[key].string_value)

    def backend(self, name: str) -> str:
        """Who executes a model, e.g. ``"python"``."""
        config = self._configs[name]
        return str(config.backend or config.platform)

    def max_batch(self, name: str) -> int:
        """Most videos in one request."""
        return int(self._configs[name].max_batch_size)

    def inputs(self, clips: Sequence[np.ndarray]) -> dict[str, list[Feeds]]:
        """Model -> inputs for each clip, for every model that these clips reach.

        Args:
            clips: uint8 RGB [T, S, S, 3] each.
        """
        found: dict[str, list[Feeds]] = {}
        for clip in clips:
            for name, feeds in self._inputs_of_one(clip[None]).items():
                found.setdefault(name, []).append(feeds)
        return found

    def _inputs_of_one(self, frames: np.ndarray) -> dict[str, Feeds]:
        found: dict[str, Feeds] = {}
        known: Feeds = {}  # tensors by their names in ensembles
        for name in self._from_frames_first():
            needed = {port.name for port in self._configs[name].input}
            available = {tensors.FRAMES.name: frames} if tensors.FRAMES.name in needed else known
            if not needed <= available.keys():
                continue
            found[name] = {port: available[port] for port in needed}
            known |= self._walk(name, dict(found[name]), found)
        return found

    def _from_frames_first(self) -> list[str]:
        """Ensembles; those that start from features after those that make them, and of these the plain ones first."""
        kinds = {"classify": 0, "features": 1, "classify_features": 2}
        ensembles = [name for name in self._configs if self.is_ensemble(name)]
        return sorted(ensembles, key=lambda name: (kinds.get(self.parameter(name, "kind"), 3), len(name)))

    def _walk(self, name: str, known: Feeds, found: dict[str, Feeds]) -> Feeds:
        """All tensors of an ensemble, its steps asked one after the other; ``found`` gains the inputs of the steps."""
        for step in self._configs[name].ensemble_scheduling.step:
            feeds = {port: known[tensor] for port, tensor in step.input_map.items()}
            found.setdefault(step.model_name, feeds)
            answers = self._tensors.infer(step.model_name, feeds)
            known |= {tensor: answers[port] for port, tensor in step.output_map.items()}
        return known

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
        self._tensors.close()


def write(feeds: Sequence[Mapping[str, np.ndarray]], path: Path) -> None:
    """Inputs of some videos as perf_analyzer reads them: it sends them in turns.

    Args:
        feeds: input name -> [1, ...], of each video.
        path: of the JSON file.
    """
    data = [
        {
            name: {"b64": base64.b64encode(array.tobytes()).decode(), "shape": list(array.shape[1:])}
            for name, array in each.items()
        }
        for each in feeds
    ]
    path.write_text(json.dumps({"data": data}), encoding="utf-8")
