"""The peers: how each turns a file into a label, as its documentation or a usual example does it.

A maker is a context manager: it gives ``Path -> label``, which several threads may call at once, or raises whatever
its library raises where it cannot run.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reelkind.benchmarks.peers import pytriton_environment, pytriton_peer
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.ensembles import classify_ensemble
from reelkind.core.errors import ReelkindError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.deployment.embedded import embedded_server
from reelkind.video import clip as video

OURS = "reelkind"
PYTRITON_STARTS = 3  # its model gives up when its own handshake takes more than a second, as on a busy machine
SLOW_TO_MAKE = ("torch.compile",)

_Label = Callable[[Path], str]


@dataclass(frozen=True)
class Setting:
    """What all peers share.

    Attributes:
        bundle: network and weights.
        callers: threads that will ask at once.
    """

    bundle: Bundle
    callers: int

    @property
    def threads_each(self) -> int:
        """Cores for one of the callers."""
        return max(1, len(os.sched_getaffinity(0)) // self.callers)

    @property
    def precision(self) -> str:
        """How backbones compute that are served with ``--precision auto``."""
        return specs.INT8 if self.bundle.backbone.storage == specs.INT8 else "fp32"

    def frames(self, path: Path) -> np.ndarray:
        """By reelkind's decoder: uint8 RGB [1, T, S, S, 3]."""
        size = self.bundle.backbone.frame_size_px
        return video.read_clip(path, num_frames=self.bundle.num_frames, size_px=size).frames[None]


class UnavailableError(ReelkindError):
    """A peer cannot run on this machine."""


@contextmanager
def reelkind(setting: Setting) -> Iterator[_Label]:
    """Ours: the client, through tritonserver."""
    from reelkind.client import Client, ProcessDecoder

    names = [specs.classify_name()]
    with (
        embedded_server([setting.bundle.path()], ensembles=names) as server,
        ProcessDecoder(setting.callers) as decoder,
        Client(server.url, decoder=decoder) as client,
    ):
        yield lambda path: client.classify(path).label or ""


@contextmanager
def torch_demo(setting: Setting, *, compiled: bool = False, cuda: bool = False) -> Iterator[_Label]:
    """A script as in a demo: OpenCV reads the whole file, PyTorch computes what was picked out of it."""
    import torch
    from torch import nn

    from reelkind.export.graphs.checkpoint import load_modules

    if cuda and not torch.cuda.is_available():
        raise UnavailableError("no CUDA GPU here")
    device, dtype = ("cuda", torch.float16) if cuda else ("cpu", torch.float32)
    modules: list[nn.Module] = [module.to(device, dtype) for module in load_modules(setting.bundle)]
    eager, head = modules
    backbone: Callable[..., Any] = torch.compile(eager) if compiled else eager
    lock = threading.Lock()  # as a Flask demo does, whose model is one object: each request uses all cores

    def label(path: Path) -> str:
        frames = opencv_frames(path, setting.bundle.num_frames, setting.bundle.backbone.frame_size_px)
        pictures = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))  # [T, 3, S, S]
        with lock, torch.inference_mode():
            features = backbone(pictures.to(device))
            logits = head(features[None].to(dtype))
        found = logits[0] if isinstance(logits, tuple) else logits
        return CLASSES[int(found.flatten().argmax())]

    yield label


def opencv_frames(path: Path, num_frames: int, size_px: int) -> np.ndarray:
    """All frames read, some kept: uint8 RGB [T, S, S, 3]."""
    import cv2

    capture, read = cv2.VideoCapture(os.fspath(path)), []
    while True:
        there, frame = capture.read()
        if not there:
            break
        read.append(frame)
    capture.release()
    if not read:
        raise UnavailableError(f"OpenCV reads no frame of {path}")
    picked = [read[(2 * i + 1) * len(read) // (2 * num_frames)] for i in range(num_frames)]
    shape = (size_px, size_px)
    return np.stack(
        [cv2.cvtColor(cv2.resize(frame, shape, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB) for frame in picked]
    )


@contextmanager
def onnx_plain(setting: Setting) -> Iterator[_Label]:
    """A session a graph, FP32, the cores divided among the callers; frames by reelkind's decoder."""
    from reelkind.benchmarks.serving_overhead import plain_sessions
    from reelkind.export.pipelines.reference import OnnxPipeline

    run = plain_sessions(OnnxPipeline(setting.bundle.path()), setting.threads_each)

    def label(path: Path) -> str:
        tensors: Any = run(setting.frames(path)[0])
        return _label(tensors["probabilities"])

    yield label


@contextmanager
def onnx_as_served(setting: Setting) -> Iterator[_Label]:
    """The graphs and the execution of the server, without one."""
    from reelkind.export.pipelines.reference import OnnxPipeline

    pipeline = OnnxPipeline(setting.bundle.path(), precision=setting.precision)
    yield lambda path: _label(pipeline(setting.frames(path))["probabilities"])


@contextmanager
def openvino(setting: Setting, *, hint: str, precision: str = "fp32") -> Iterator[_Label]:
    """The backbone by OpenVINO, a stream a caller; the cheap graphs by ONNX Runtime, which is faster at them."""
    import openvino as ov

    from reelkind.export.pipelines.reference import OnnxPipeline
    from reelkind.export.repository.graph_files import find_graph_file

    bundle = setting.bundle
    if precision == specs.INT8 and bundle.backbone.storage != specs.INT8:
        raise UnavailableError(f"member {bundle.name} is not stored as int8")
    graph = specs.backbone_graph(bundle)
    core = ov.Core()
    # Integer graphs take their range from what they see, so each frame goes alone, as it does when served.
    num_together = 1 if precision == specs.INT8 else bundle.num_frames
    model = core.read_model(os.fspath(find_graph_file(graph, {bundle.name: bundle}, precision)))
    size = bundle.backbone.frame_size_px
    model.reshape([1, 1, num_together, 3, size, size])
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": str(setting.callers),
            "INFERENCE_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        },
    )
    own = threading.local()

    def stage(inputs: Any) -> list[np.ndarray]:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        (views,) = inputs  # [1, 1, T, 3, S, S]
        parts = [views[:, :, i : i + num_together] for i in range(0, views.shape[2], num_together)]
        found = [np.array(own.request.infer([np.ascontiguousarray(part)])[0]) for part in parts]
        return [np.concatenate(found, axis=2)]

    pipeline = OnnxPipeline(bundle.path(), replaced={graph.name: stage})
    yield lambda path: _label(pipeline(setting.frames(path))["probabilities"])


@contextmanager
def pytriton(setting: Setting) -> Iterator[_Label]:
    """A Python function bound by pytriton, which runs plain ONNX Runtime sessions, asked over gRPC."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    from reelkind.export.repository.graph_files import find_graph_file

    bundle = setting.bundle
    ensemble = classify_ensemble([bundle])
    steps = [
        {
            "file": os.fspath(find_graph_file(step.graph, {bundle.name: bundle}, setting.precision)),
            "inputs": dict(step.input_map),
            "outputs": dict(step.output_map),
        }
        for step in ensemble.steps
    ]
    task = {
        "steps": steps,
        "frames": ["frames", -1, -1, -1, 3],
        "threads": setting.threads_each,
        "instances": setting.callers,
    }
    python = pytriton_environment.python()
    command = [os.fspath(python), os.fspath(Path(pytriton_peer.__file__)), json.dumps(task)]
    with _started(command) as port, InferenceServerClient(f"127.0.0.1:{port}") as client:

        def label(path: Path) -> str:
            frames = setting.frames(path)
            tensor = InferInput("frames", list(frames.shape), "UINT8")
            tensor.set_data_from_numpy(frames)
            return _label(client.infer("classify", [tensor]).as_numpy("probabilities"))

        yield label


@contextmanager
def _started(command: Sequence[str]) -> Iterator[int]:
    """The port of a server of pytriton's, which ends when nobody holds its standard input any more."""
    for _ in range(PYTRITON_STARTS):
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith(pytriton_peer.READY)), None)
            if ready is None:
                continue
            try:
                yield int(ready.split()[1])
                return
            finally:
                process.stdin.close()
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
    raise UnavailableError(f"pytriton's server did not start in {PYTRITON_STARTS} attempts")


@contextmanager
def transformers_pipeline(setting: Setting) -> Iterator[_Label]:
    """``pipeline("video-classification")`` with a network of like cost and random weights: a ViT-B/16 a frame."""
    import torch
    import transformers

    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded: the weights are seeded random ones
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = transformers.TimesformerConfig(num_frames=setting.bundle.num_frames, num_labels=len(CLASSES))
    run = transformers.pipeline(
        "video-classification",
        model=transformers.TimesformerForVideoClassification(config).eval(),
        image_processor=transformers.VideoMAEImageProcessor(),
        device="cpu",
    )
    lock = threading.Lock()

    def label(path: Path) -> str:
        with lock:
            return str(run(os.fspath(path), top_k=1)[0]["label"])

    yield label


def _label(probabilities: np.ndarray) -> str:
    return CLASSES[int(np.asarray(probabilities)[0].argmax())]


PEERS: dict[str, tuple[Callable[[Setting], AbstractContextManager[_Label]], str]] = {
    OURS: (reelkind, "Client.classify through tritonserver, frames by a pool of decoders, system shared memory"),
    "pytorch eager": (torch_demo, "FP32, all cores a request, one request at a time; OpenCV reads the file through"),
    "torch.compile": (partial(torch_demo, compiled=True), "the same script, backbone by torch.compile"),
    "onnxruntime": (onnx_plain, "in-process, FP32, default sessions, cores divided among the callers"),
    "onnxruntime as served": (onnx_as_served, "in-process, the server's graphs, precision and execution"),
    "openvino fp32": (partial(openvino, hint="f32"), "in-process, backbone in FP32, a stream a caller"),
    "openvino bf16": (partial(openvino, hint="bf16"), "in-process, backbone with bf16 as precision hint"),
    "openvino int8": (
        partial(openvino, hint="f32", precision=specs.INT8),
        "in-process, the int8 graph of the backbone, frame by frame",
    ),
    "pytriton bind": (pytriton, "a bound function with plain ONNX Runtime sessions of the served graphs, over gRPC"),
    "transformers pipeline": (
        transformers_pipeline,
        "video-classification, TimeSformer base (ViT-B/16 a frame) with other weights (random): cost only",
    ),
    "pytorch eager FP16, CUDA": (partial(torch_demo, cuda=True), "the demo's script on a GPU in half precision"),
}
"""Name -> maker, and how it is run."""
