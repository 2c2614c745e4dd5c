"""Repositories for backends that this machine lacks, read by the real tritonserver.

Stand-ins for the backends ``onnxruntime`` and ``tensorrt``: Triton's Python backend under their names, running graphs
on the CPU. What is real is everything before a backend executes: configurations, wiring, queues, warm-up, labels.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from reelkind.core.bundle import Bundle
from reelkind.export.pipelines.reference import OnnxPipeline
from reelkind.export.repository.repository import standard_ensembles, write_repository
from reelkind.serving.control import Control
from reelkind.serving.errors import ServingError
from reelkind.serving.install.runtime import Runtime
from reelkind.serving.models import read_config
from reelkind.serving.server import TritonServer

from .tiny_repository import CHECKSUMS, EXECUTORS, NUMPY_GUARD, RUNNER

pytestmark = pytest.mark.triton

FREE = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
ENSEMBLES = ["classify", "classify_tta", "features_lite", "classify_features_lite_tta"]


@dataclass(frozen=True)
class StandIns(Runtime):
    """A tritonserver with two backends more than it has."""

    def backend_directory(self, scratch: Path) -> Path:
        folder = super().backend_directory(scratch)
        library = folder / "python" / "libtriton_python.so"
        target = library.resolve()
        library.unlink()
        shutil.copyfile(target, library)  # Triton lets no backend written in Python use a link
        for name in ("onnxruntime", "tensorrt"):
            (folder / name).mkdir()
            shutil.copyfile(RUNNER, folder / name / "model.py")
            for source in (EXECUTORS, NUMPY_GUARD, CHECKSUMS):
                shutil.copyfile(source, folder / name / source.name)
        return folder


@pytest.fixture
def standins(triton_runtime) -> StandIns:
    return StandIns(**{field.name: getattr(triton_runtime, field.name) for field in fields(triton_runtime)})


def write(folder: Path, bundle: Bundle, flavour: str) -> Path:
    write_repository(folder, standard_ensembles([bundle], ENSEMBLES), [bundle], flavour)
    for engine in ("backbone", "head") if flavour == "tensorrt" else ():
        version = folder / f"{engine}_{bundle.name}" / "1"
        (version / "model.plan").touch()
        shutil.copyfile(bundle.path("onnx", f"{engine}.onnx"), version / "model.onnx")  # what the stand-in runs
    return folder


def serve(repository: Path, runtime: Runtime) -> TritonServer:
    return TritonServer(repository, runtime=runtime, supervise=False, **FREE)


@pytest.mark.parametrize("flavour", ["onnxruntime", "tensorrt"])
def test_all_that_a_server_misses_is_the_backend(triton_runtime, served_bundle, tmp_path, flavour):
    missing = rf"cannot load \w+: unable to find backend library for backend '({flavour}|onnxruntime)'"
    with pytest.raises(ServingError, match=missing):
        serve(write(tmp_path, served_bundle, flavour), triton_runtime).start()


def test_engines_are_refused_for_want_of_a_gpu_only(standins, served_bundle, tmp_path):
    with pytest.raises(
        ServingError, match=r"cannot load (backbone|head)_\w+: .* kind KIND_GPU but no GPUs are available"
    ):
        serve(write(tmp_path, served_bundle, "tensorrt"), standins).start()


@pytest.mark.parametrize("flavour", ["onnxruntime", "tensorrt"])
def test_every_model_of_a_flavour_loads_and_its_ensembles_answer(standins, served_bundle, tmp_path, flavour):
    repository = write(tmp_path, served_bundle, flavour)
    for path in repository.glob("*/config.pbtxt"):
        config = read_config(path)
        for group in config.instance_group:
            group.kind = model_config_pb2.ModelInstanceGroup.KIND_CPU
        path.write_text(text_format.MessageToString(config), encoding="utf-8")
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 48, 64, 3), np.uint8)
    with serve(repository, standins) as server:  # every ensemble answers before it counts as started
        control = Control(server.url)
        answer = control.infer("classify", {"frames": frames}, timeout_s=60)
        control.close()
    expected = OnnxPipeline(served_bundle.folder)(frames)
    for name in ("probabilities", "attention", "embedding"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-4)
