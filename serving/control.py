"""A running tritonserver to its state: alive, which models, do its ensembles really answer, load them again."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .models import canary_feeds

RESTRICTED = ("model-repository", "trace", "logging")
"""APIs that would let anyone who reaches the port replace model code or write files; our key opens them."""

KEY_HEADER = "reelkind-key"

_UNHEALTHY = re.compile(r"Stub process '(\S+?)_\d+_\d+' is not healthy")
_CALL_TIMEOUT_S = 5.0
_LOAD_TIMEOUT_S = 120.0


class CanaryError(Exception):
    """An ensemble did not answer a canary inference."""


class StubUnhealthyError(CanaryError):
    """The process of a Python model is dead or hangs."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the process of {model} does not answer")
        self.model = model


class BusyError(CanaryError):
    """The server refuses or delays work because it has too much of it; it may still be well."""


class ModelMissingError(CanaryError):
    """The ensemble is not loaded."""


class Control:
    """Talks to one server. Every call has a timeout; one instance must not be used by two threads at a time."""

    def __init__(self, grpc_url: str, key: str) -> None:
        self._client = triton.InferenceServerClient(grpc_url)
        self._headers = {f"triton-grpc-protocol-{KEY_HEADER}": key}

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    def is_ready(self, model: str) -> bool:
        """Whether the server calls a model ready, which a Python model with a dead process is, too."""
        try:
            return bool(self._client.is_model_ready(model, client_timeout=_CALL_TIMEOUT_S))
        except InferenceServerException:
            return False

    def num_answers(self, model: str) -> int:
        """How many requests a model has answered since it was loaded; -1 if the server does not say."""
        try:
            statistics = self._client.get_inference_statistics(model, client_timeout=_CALL_TIMEOUT_S)
        except InferenceServerException:
            return -1
        return sum(entry.inference_stats.success.count for entry in statistics.model_stats)

    def canary(self, config: Any, timeout_s: float, num_frames: int | None = None) -> None:
        """Run one inference of zeros and look at the answer.

        Raises:
            CanaryError: of the kind that says what to do about it.
        """
        inputs = []
        for name, array in canary_feeds(config, num_frames).items():
            tensor = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        try:
            result = self._client.infer(config.name, inputs, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise _canary_error(error) from error
        for output in config.output:
            values = result.as_numpy(output.name)
            if values is None or values.size == 0 or not np.isfinite(values).all():
                raise CanaryError(f"{config.name} answers '{output.name}' with nothing or with non-numbers")

    def reload(self, model: str) -> None:
        """Unload a model and load it again; ensembles made of it go and come back with it.

        Raises:
            CanaryError: if the server cannot.
        """
        try:
            self._client.unload_model(model, headers=self._headers, client_timeout=_CALL_TIMEOUT_S)
            self._client.load_model(model, headers=self._headers, client_timeout=_LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            raise CanaryError(f"{model} cannot be loaded again: {error.message()}") from error

    def load(self, model: str) -> None:
        """Load a model that is not.

        Raises:
            CanaryError: if the server cannot.
        """
        try:
            self._client.load_model(model, headers=self._headers, client_timeout=_LOAD_TIMEOUT_S)
        except InferenceServerException as error:
            raise CanaryError(f"{model} cannot be loaded: {error.message()}") from error


def _canary_error(error: InferenceServerException) -> CanaryError:
    message, status = error.message() or "", error.status() or ""
    unhealthy = _UNHEALTHY.search(message)
    if unhealthy:
        return StubUnhealthyError(unhealthy[1])
    if "unknown model" in message or "is not ready" in message or status == "StatusCode.NOT_FOUND":
        return ModelMissingError(message)
    if status == "StatusCode.DEADLINE_EXCEEDED" or "queue" in message:
        return BusyError(message)
    return CanaryError(message)
