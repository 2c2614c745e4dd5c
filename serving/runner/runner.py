"""Python-backend model: one ONNX graph executed for a list of requests.

This file is copied into a model repository as ``<model>/1/model.py``, with ``executors.py``, ``numpy_guard.py`` and
``checksums.py`` beside it, and runs inside Triton's Python backend, in the server's own environment: it may import
NumPy, ONNX Runtime and ``triton_python_backend_utils`` and nothing of reelkind but files copied beside it. So does the
graph lie; parameters of config.pbtxt choose how it runs:

    model_file          file name of the graph in the version folder  (model.onnx)
    runtime             who executes it                                 (onnxruntime)
                            onnxruntime         on the CPU
                            onnxruntime_cuda    on the GPU, by ONNX Runtime's CUDA provider
                            tensorrt            a TensorRT engine, which is the ``model_file`` then
    num_threads         CPU threads, 0 = all we may use                 (0)
    frames_per_run      for graphs that treat every frame by itself: so many a run, and ``num_threads`` runs side by
                        side, each in one thread; 0 = all frames in one run, the threads inside its operators  (0)
    niceness            how far this process stands back behind the server's others when processors are short  (0)
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from reelkind.core.files import checksums as checksums
    from reelkind.serving.runner import executors as executors
    from reelkind.serving.runner import numpy_guard
else:
    numpy_guard = importlib.import_module("numpy_guard")  # Triton puts this file's folder on the path
    executors = importlib.import_module("executors")
    checksums = importlib.import_module("checksums")

numpy_guard.install()


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph.

        Raises:
            TritonModelException: if the parameters or the graph are of no use; the model is then not loaded.
        """
        parameters = json.loads(args["model_config"]).get("parameters", {})
        values = {name: value["string_value"] for name, value in parameters.items()}
        name, file = args["model_name"], values.get("model_file", "model.onnx")
        runtime = values.get("runtime", "onnxruntime")
        if runtime not in executors.EXECUTORS:
            known = ", ".join(executors.EXECUTORS)
            raise pb_utils.TritonModelException(f"{name}: unknown runtime '{runtime}', known: {known}")
        path = Path(args["model_repository"], args["model_version"], file)
        if not path.is_file():
            raise pb_utils.TritonModelException(f"{name}: {file} is missing beside its model.py")
        changed = ", ".join(checksums.changed_in(path.parent))
        if changed:
            said = f"{changed} is not what {checksums.SUMS_NAME} says: it is damaged"
            raise pb_utils.TritonModelException(f"{name}: {said}")
        try:
            num_threads = int(values.get("num_threads", "0")) or len(os.sched_getaffinity(0))  # left to it, ORT pins
            frames_per_run = int(values.get("frames_per_run", "0"))
            os.nice(int(values.get("niceness", "0")))
            self._runtime = executors.load(path, runtime, num_threads, frames_per_run)
        except ImportError as error:
            raise pb_utils.TritonModelException(f"{name}: the server's environment lacks {error.name}") from error
        except Exception as error:
            raise pb_utils.TritonModelException(f"{name}: {file} cannot be loaded: {error}") from error
        self._name = name

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests in order.

        A wrong request, or one whose execution fails, is answered with an error of its own.
        """
        responses: list[Any] = [None] * len(requests)
        accepted: dict[int, executors.Feeds] = {}
        for i, request in enumerate(requests):
            if request.is_cancelled():
                responses[i] = _refusal("the request was cancelled", pb_utils.TritonError.CANCELLED)
                continue
            try:
                accepted[i] = self._read(request)
            except executors.InvalidRequestError as error:
                responses[i] = _refusal(f"{self._name}: {error}", pb_utils.TritonError.INVALID_ARG)
        for i, answer in zip(accepted, self._runtime.run(list(accepted.values())), strict=True):
            responses[i] = self._respond(requests[i], answer)
        return responses

    def _read(self, request: Any) -> executors.Feeds:
        feeds: executors.Feeds = {}
        for port in self._runtime.inputs:
            tensor = pb_utils.get_input_tensor_by_name(request, port.name)
            if tensor is None:
                raise executors.InvalidRequestError(f"tensor '{port.name}' is missing")
            feeds[port.name] = tensor.as_numpy()
            if numpy_guard.was_impossible(feeds[port.name]):
                raise executors.InvalidRequestError(f"tensor '{port.name}' has axes whose product no memory holds")
            port.check(feeds[port.name])
        for what, axis in (("batch sizes", executors.BATCH_AXIS), ("numbers of frames", executors.FRAME_AXIS)):
            lengths = {
                port.name: feeds[port.name].shape[port.shape.index(axis)]
                for port in self._runtime.inputs
                if axis in port.shape
            }
            if len(set(lengths.values())) > 1:
                given = ", ".join(f"'{name}' {length}" for name, length in lengths.items())
                raise executors.InvalidRequestError(f"tensors have different {what}: {given}")
        return feeds

    def _respond(self, request: Any, outputs: executors.Outcome) -> Any:
        if isinstance(outputs, executors.InvalidRequestError):
            return _refusal(f"{self._name}: {outputs}", pb_utils.TritonError.INVALID_ARG)
        if isinstance(outputs, Exception):
            # The detail may name files of the server: it belongs into its log, not into the answer.
            pb_utils.Logger.log_error(f"{self._name}: {type(outputs).__name__}: {outputs}")
            return _refusal(
                f"{self._name}: execution failed; the server's log has the reason", pb_utils.TritonError.INTERNAL
            )
        wanted = set(request.requested_output_names())
        named = zip(self._runtime.outputs, outputs, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(port.name, np.ascontiguousarray(array)) for port, array in named if port.name in wanted]
        )


def _refusal(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
