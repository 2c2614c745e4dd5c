"""A running server as a rung of the ladder: the tensors of the contract over gRPC, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from reelkind.core import tensors
from reelkind.core.bundle import Bundle, weights_hash
from reelkind.core.ensembles import Ensemble
from reelkind.core.specs import Graph

from ..errors import ParityError
from ..pipelines.steps import Stage, Tensors, run_steps

TIMEOUT_S = 600.0  # a deep member over hundreds of frames and views on a small machine


class TritonModels:
    """Any model of a running server: arrays in, arrays out.

    Args:
        url: ``host:port`` of the gRPC endpoint.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = InferenceServerClient(url)

    def require_weights(self, ensemble: str, members: Sequence[Bundle]) -> None:
        """Make sure that an ensemble is there and serves these members.

        Raises:
            ParityError: if the server cannot be asked, or serves other weights.
        """
        try:
            config = self._client.get_model_config(ensemble, client_timeout=TIMEOUT_S).config
        except InferenceServerException as error:
            raise ParityError(f"cannot ask {self._url} about model {ensemble!r}: {error.message()}") from error
        served = config.parameters["weights"].string_value
        expected = ",".join(weights_hash(bundle) for bundle in sorted(members, key=lambda bundle: bundle.name))
        if served != expected:
            raise ParityError(
                f"{self._url} serves weights {served[:12] or 'unknown'}, the bundle here has {expected[:12]}"
            )

    def infer(self, model: str, feeds: Mapping[str, np.ndarray]) -> Tensors:
        """Outputs of a model under their names.

        Raises:
            ParityError: if the server does not answer.
        """
        inputs = []
        for name, array in feeds.items():
            inputs.append(InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
            inputs[-1].set_data_from_numpy(np.ascontiguousarray(array))
        try:
            answer = self._client.infer(model, inputs, client_timeout=TIMEOUT_S)
        except InferenceServerException as error:
            raise ParityError(f"{self._url} did not answer for {model!r}: {error.message()}") from error
        names = [output.name for output in answer.get_response().outputs]
        return {name: answer.as_numpy(name) for name in names}

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()


class TritonPipeline:
    """uint8 frames [B, T, H, W, 3] to the answer of an ensemble on a server.

    Args:
        url: ``host:port`` of the gRPC endpoint.
        ensemble: its model name.
        members: whose answers are compared; the server must hold the same weights.

    Raises:
        ParityError: if the server cannot be asked, or serves other weights.
    """

    def __init__(self, url: str, ensemble: str, members: Sequence[Bundle]) -> None:
        self._ensemble, self._models = ensemble, TritonModels(url)
        self._models.require_weights(ensemble, members)

    def __call__(self, frames: np.ndarray) -> Tensors:
        """The ensemble's outputs under their names."""
        tensors.FRAMES.check(frames)
        return self._models.infer(self._ensemble, {tensors.FRAMES.name: frames})

    def trace(self, ensemble: Ensemble, frames: np.ndarray) -> Tensors:
        """Every tensor of the ensemble, its composing models asked one after the other."""

        def stage(graph: Graph) -> Stage:
            def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
                feeds = {spec.name: array for spec, array in zip(graph.inputs, inputs, strict=True)}
                answers = self._models.infer(graph.name, feeds)
                return [answers[spec.name] for spec in graph.outputs]

            return run

        return run_steps(ensemble, {step.graph.name: stage(step.graph) for step in ensemble.steps}, frames)

    def close(self) -> None:
        """Give the connection back."""
        self._models.close()
