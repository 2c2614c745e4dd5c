"""A stand-in for Triton: a real gRPC server of the KServe v2 protocol that answers as reelkind's ensembles would.

It says what a test tells it to, which a real server cannot be made to: every status, silence, damaged tensors.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from reelkind.core.taxonomy.classes import CLASSES, places_of_classes
from reelkind.core.tensors import CONTRACT_VERSION

NUM_FRAMES, FRAME_SIZE_PX, EMBEDDING_DIM, MAX_BATCH = 4, 32, 6, 8
FEATURE_DIM = 3  # mean red, green and blue of each frame, times four
PARAMETERS = {
    "contract_version": CONTRACT_VERSION,
    "kind": "classify",
    "num_frames": str(NUM_FRAMES),
    "frame_size_px": str(FRAME_SIZE_PX),
    "classes": ",".join(CLASSES),
    "members": "lite",
    "views": "identity",
    "temporal_views": "forward",
    "feature_dims": str(FEATURE_DIM),
    "member_weights": "1.0",
    "untrained": "",
    "weights": "0" * 64,
}
MODELS = {
    # name -> what its config has of its own
    "classify": {},
    "classify_lite": {},
    "classify_ensemble": {},
    "classify_tta_fast": {"temporal_views": "forward,reversed"},
    "classify_tta": {"views": "identity,flip", "temporal_views": "forward,reversed"},
    "features": {"kind": "features"},
    "features_lite": {"kind": "features"},
    "classify_features": {"kind": "classify_features", "views": "any"},
    "classify_features_lite": {"kind": "classify_features", "views": "any"},
}
BORDERS = {
    # kind -> tensors taken and given
    "classify": (["frames"], ["probabilities", "attention", "embedding", "frame_probabilities"]),
    "features": (["frames"], ["features_lite"]),
    "classify_features": (["features_lite"], ["probabilities", "attention", "embedding", "frame_probabilities"]),
}


def expected_probabilities(frames: np.ndarray) -> np.ndarray:
    """What it answers for uint8 [B, T, H, W, 3]: softmax of four times mean red, green, blue, and zero: [B, 4]."""
    return _probabilities(expected_features(frames))


def expected_frames(frames: np.ndarray) -> np.ndarray:
    """What it says of each frame of uint8 [B, T, H, W, 3]: [B, T, 4]."""
    return _frame_probabilities(expected_features(frames))


def expected_features(frames: np.ndarray) -> np.ndarray:
    """What its features of uint8 [B, T, H, W, 3] are: [B, 1, T, 3]."""
    return frames.astype(np.float64).mean(axis=(2, 3))[:, None] / 255 * 4


def expected_subcategories(probabilities: np.ndarray) -> np.ndarray:
    """[B, 46] of class probabilities [B, 4]: of n subcategories of a class the k-th has k/n-ths of the most."""
    shares = []
    for number, places in enumerate(places_of_classes().values()):
        ranks = np.arange(1, places.stop - places.start + 1)
        shares.append(probabilities[:, number, None] * ranks / ranks.sum())
    return np.concatenate(shares, axis=1)


def _probabilities(features: np.ndarray) -> np.ndarray:
    return _softmax(features.mean(axis=(1, 2)))


def _frame_probabilities(features: np.ndarray) -> np.ndarray:
    return _softmax(features.mean(axis=1))


def _softmax(colours: np.ndarray) -> np.ndarray:
    weights = np.exp(np.concatenate([colours, np.zeros((*colours.shape[:-1], 1))], axis=-1))
    return weights / weights.sum(axis=-1, keepdims=True)


class StandinServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Attributes a test may change at any time.

    Attributes:
        url: where it listens.
        failures: (status, message) for the next inference requests, one each.
        parameters: of every model's config.
        subcategories_learnt: those that may be named; None for a server of a release or of members without them.
        tells_frames: whether it says what each frame shows, as servers of earlier releases did not.
        outputs: tensors by name that replace the right ones, as (array, shape said).
        version: of every model.
        hold: inference waits until this is set.
        requests: shapes of the frames or features received.
        asked: models that inference was asked of.
        metadata: headers of the last inference request.
        most_at_once: most inference requests under way at the same time.
    """

    def __init__(self) -> None:
        self.failures: deque[tuple[grpc.StatusCode, str]] = deque()
        self.parameters = dict(PARAMETERS)
        self.subcategories_learnt: tuple[str, ...] | None = None
        self.tells_frames = True
        self.outputs: dict[str, tuple[np.ndarray, list[int]] | None] = {}
        self.version = "1"
        self.hold = threading.Event()
        self.hold.set()
        self.ready = True
        self.requests: list[list[int]] = []
        self.asked: list[str] = []
        self.metadata: dict[str, str] = {}
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.url = ""
        self._server: grpc.Server | None = None

    def start(self, port: int = 0, credentials: grpc.ServerCredentials | None = None, host: str = "127.0.0.1") -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(16), options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        address = f"{host}:{port}"
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.url = f"{host}:{port}"
        self._server.start()

    def stop(self) -> None:
        self.hold.set()
        if self._server is not None:
            self._server.stop(grace=None).wait()

    def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=self.ready)

    def ModelConfig(self, request, context):
        if request.name not in MODELS:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{request.name}' is not found")
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=MAX_BATCH)
        taken, given = BORDERS[MODELS[request.name].get("kind", "classify")]
        for name in taken:
            config.input.add(name=name, data_type=model_config_pb2.TYPE_UINT8, dims=[-1, -1, -1, 3])
        for name in given if self.tells_frames else [name for name in given if name != "frame_probabilities"]:
            config.output.add(name=name, data_type=model_config_pb2.TYPE_FP32, dims=[-1])
        if self.subcategories_learnt is not None and "probabilities" in given:
            config.output.add(name="subcategories", data_type=model_config_pb2.TYPE_FP32, dims=[46])
            config.parameters["subcategories_learnt"].string_value = ",".join(self.subcategories_learnt)
        for name, value in {**self.parameters, **MODELS[request.name]}.items():
            config.parameters[name].string_value = value
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request, context):
        with self._lock:
            self.metadata = dict(context.invocation_metadata())
            self.requests.append(list(request.inputs[0].shape))
            self.asked.append(request.model_name)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            failure = self.failures.popleft() if self.failures else None
        try:
            if failure is not None:
                context.abort(*failure)
            while context.is_active() and not self.hold.wait(0.01):
                pass
            return self._answer(request)
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, request):
        shape = list(request.inputs[0].shape)
        if request.inputs[0].name == "frames":
            features = expected_features(np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(shape))
        else:
            features = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(shape)
        num_videos, _, num_frames, _ = features.shape
        right = {
            "probabilities": _probabilities(features).astype(np.float32),
            "attention": np.full((num_videos, num_frames), 1 / num_frames, np.float32),
            "embedding": np.ones((num_videos, EMBEDDING_DIM), np.float32),
            "frame_probabilities": _frame_probabilities(features).astype(np.float32),
            "features_lite": features.astype(np.float32),
        }
        if self.subcategories_learnt is not None:
            right["subcategories"] = expected_subcategories(_probabilities(features)).astype(np.float32)
        response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=self.version)
        for name, array in ((output.name, right[output.name]) for output in request.outputs):
            replaced = self.outputs.get(name, (array, list(array.shape)))
            if replaced is None:
                continue
            array, said = replaced
            response.outputs.add(name=name, datatype="FP32", shape=said)
            response.raw_output_contents.append(array.tobytes())
        return response


@pytest.fixture
def standin() -> Iterator[StandinServer]:
    """A stand-in server on a free port."""
    server = StandinServer()
    server.start()
    yield server
    server.stop()
