"""A running tritonserver to its state: alive, which models, do its ensembles really answer, load them again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from reelkind.core.files.server_keys import KEY_HEADER

from .models import canary_feeds
from .tls import ServerTls

RESTRICTED = ("model-repository", "trace", "logging", "shared-memory")
"""APIs that let who reaches the port replace code, write files or read our memory: our key opens them."""

_UNHEALTHY = re.compile(r"Stub process '((\S+?)_\d+_\d+)' is not healthy")
_CALL_TIMEOUT_S = 5.0
_LOAD_TIMEOUT_S = 120.0


class CanaryError(Exception):
    """An ensemble did not answer a canary inference."""


class StubUnhealthyError(CanaryError):
    """The process of a Python model is dead or hangs."""

    def __init__(self, model: str, instance: str) -> None:
        super().__init__(f"the process of {model} does not answer")
        self.model, self.instance = model, instance


class BusyError(CanaryError):
    """The server refuses or delays work because it has too much of it; it may still be well."""


class ModelMissingError(CanaryError):
    """The ensemble is not loaded."""


class Control:
    """Talks to one server. Every call has a timeout; one instance must not be used by two threads at a time."""

    def __init__(self, grpc_url: str, key: str = "", tls: ServerTls | None = None) -> None:
        self._client = triton.InferenceServerClient(grpc_url, **(tls.credentials() if tls else {}))
        self._headers = {f"triton-grpc-protocol-{KEY_HEADER}": key} if key else {}

    def close(self) -> None:
        """Close the channel."""
        self._client.close()

    def is_live(self) -> bool:
        """Whether the server answers at all."""
        try:
            return bool(self._client.is_server_live(client_timeout=_CALL_TIMEOUT_S))
        except InferenceServerException:
            return False

    def is_ready(self, model: str) -> bool:
        """Whether the server calls a model ready, which a Python model with a dead process is, too."""
        try:
            return bool(self._client.is_model_ready(model, client_timeout=_CALL_TIMEOUT_S))
        except InferenceServerException:
            return False

    def config(self, model: str) -> Any:
        """A model's configuration as the server has read it.

        Raises:
            CanaryError: if the server does not say.
        """
        try:
            return self._client.get_model_config(model, client_timeout=_CALL_TIMEOUT_S).config
        except InferenceServerException as error:
            raise CanaryError(f"the server does not describe {model}: {error.message()}") from error

    def num_processes(self, model: str) -> int:
        """How many processes a version of a model has when all is well; those of other backends have none.

        Raises:
            CanaryError: if the server does not say.
        """
        config = self.config(model)
        if config.backend != "python":
            return 0
        return sum(group.count * max(len(group.gpus), 1) for group in config.instance_group)

    def require_ready(self, model: str) -> None:
        """Do nothing for a model that is ready.

        Raises:
            ModelMissingError: if it is not.
        """
        if not self.is_ready(model):
            raise ModelMissingError(f"{model} is not loaded")

    def num_requests(self, model: str) -> tuple[int, int]:
        """How many requests a model has computed and failed since it was loaded; -1 if the server does not say."""
        try:
            statistics = self._client.get_inference_statistics(model, client_timeout=_CALL_TIMEOUT_S)
        except InferenceServerException:
            return -1, -1
        counts = [entry.inference_stats for entry in statistics.model_stats]
        computed = sum(count.success.count - count.cache_hit.count for count in counts)
        return computed, sum(count.fail.count for count in counts)

    def num_executions(self, model: str) -> int:
        """How often a model has computed since it was loaded, for whichever ensemble; once for requests that shared it.

        Raises:
            CanaryError: if the server does not say.
        """
        try:
            statistics = self._client.get_inference_statistics(model, client_timeout=_CALL_TIMEOUT_S)
        except InferenceServerException as error:
            raise CanaryError(f"the server does not say what {model} has computed: {error.message()}") from error
        return sum(entry.execution_count for entry in statistics.model_stats)

    def canary(self, config: Any, timeout_s: float, num_frames: int | None = None) -> None:
        """Run one inference of next to nothing and look at the answer.

        Raises:
            CanaryError: of the kind that says what to do about it.
        """
        answers = self.infer(config.name, canary_feeds(config, num_frames), timeout_s)
        for output in config.output:
            values = answers.get(output.name)
            if values is None or values.size == 0 or not np.isfinite(values).all():
                raise CanaryError(f"{config.name} answers '{output.name}' with nothing or with non-numbers")

    def infer(
        self, model: str, feeds: Mapping[str, np.ndarray], timeout_s: float, version: str = ""
    ) -> dict[str, np.ndarray]:
        """Outputs of a model, or of one version of it.

        Raises:
            CanaryError: of the kind that says what to do about it.
        """
        inputs = []
        for name, array in feeds.items():
            inputs.append(triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
            inputs[-1].set_data_from_numpy(np.ascontiguousarray(array))
        try:
            result = self._client.infer(model, inputs, model_version=version, client_timeout=timeout_s)
        except InferenceServerException as error:
            raise _canary_error(error) from error
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}

    def versions(self, model: str) -> set[str]:
        """Versions of a model that are ready to answer.

        Raises:
            CanaryError: if the server does not say.
        """
        return {version for name, version in self.loaded() if name == model}

    def loaded(self) -> set[tuple[str, str]]:
        """Every model with a version that is ready to answer, and that version.

        Raises:
            CanaryError: if the server does not say.
        """
        try:
            index = self._client.get_model_repository_index(headers=self._headers, client_timeout=_CALL_TIMEOUT_S)
        except InferenceServerException as error:
            raise CanaryError(f"the server does not list its models: {error.message()}") from error
        return {(entry.name, entry.version) for entry in index.models if entry.state == "READY"}

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
        """Load a model that is not, or what has changed of one that is.

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
        return StubUnhealthyError(model=unhealthy[2], instance=unhealthy[1])
    if "unknown model" in message or "is not ready" in message or status == "StatusCode.NOT_FOUND":
        return ModelMissingError(message)
    if status == "StatusCode.DEADLINE_EXCEEDED" or "queue" in message:
        return BusyError(message)
    return CanaryError(message)
