"""Who executes which graph: the choices behind a flavour of the model repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.specs import INT8, Graph

from ..errors import ExportError

FLAVOURS = ("tensorrt", "onnxruntime", "python")
CPU_PRECISIONS = ("auto", "fp32", INT8)
RUNTIMES = ("onnxruntime", "onnxruntime_cuda", "tensorrt")  # of serving/runner/runner.py


@dataclass(frozen=True)
class Execution:
    """Who executes which graph.

    Attributes:
        flavour: one of ``FLAVOURS``.
        runtime: what the Python backend's runner executes backbones and heads with, one of ``RUNTIMES``.
        num_threads: CPU threads inside one operator; None leaves it to the runtime (all cores).
        without_engine: models left to ONNX Runtime, where TensorRT is slower or wrong, e.g. ``head_lite``.
        max_queue: requests that may wait for a backbone, and no longer than ``specs.QUEUE_TIMEOUT_US``; None for the
            default: ``specs.MAX_QUEUE_SIZE`` where the backbone has several instances, else no limit.
        precision: of backbones on a CPU: ``auto`` is int8 for those stored so and FP32 for others.
    """

    flavour: str
    runtime: str = "onnxruntime"
    num_threads: int | None = None
    without_engine: frozenset[str] = frozenset()
    max_queue: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        choices = (
            ("flavour", self.flavour, FLAVOURS),
            ("runtime", self.runtime, RUNTIMES),
            ("precision", self.precision, CPU_PRECISIONS),
        )
        for what, value, known in choices:
            if value not in known:
                raise ExportError(f"unknown {what} {value!r} (known: {', '.join(known)})")
        if self.runtime != "onnxruntime" and not self.by_runner:
            raise ExportError(f"runtime {self.runtime} is for flavour python, the flavour here is {self.flavour}")
        if self.without_engine and not self.has_engines:
            raise ExportError(f"there is no engine to do without: flavour {self.flavour} on {self.runtime} runs none")

    @property
    def by_runner(self) -> bool:
        """Whether the Python backend executes everything."""
        return self.flavour == "python"

    @property
    def has_engines(self) -> bool:
        """Whether backbones and heads run as TensorRT engines, those ``without_engine`` left aside."""
        return (self.runtime if self.by_runner else self.flavour) == "tensorrt"

    def runtime_of(self, graph: Graph) -> str:
        """``runtime`` of a graph in the Python backend."""
        if not graph.is_network:
            return "onnxruntime"
        return "onnxruntime_cuda" if self.runtime == "tensorrt" and graph.name in self.without_engine else self.runtime

    def uses_engine(self, graph: Graph) -> bool:
        """Whether a graph runs as a TensorRT engine."""
        return self.has_engines and graph.is_network and graph.name not in self.without_engine

    def precision_of(self, graph: Graph, members: Mapping[str, Bundle]) -> str:
        """Whose file of a graph ONNX Runtime executes: ``fp32`` or ``int8``.

        Args:
            graph: one of ``core.specs``.
            members: at least the graph's members, by name.

        Raises:
            ExportError: if int8 is asked for and no member is stored so.
        """
        if self.precision == INT8 and not any(bundle.backbone.storage == INT8 for bundle in members.values()):
            raise ExportError(f"no member is stored as int8 ({', '.join(members)}): choose another precision")
        on_cpu = self.runtime == "onnxruntime" and not self.has_engines
        if graph.kind != "backbone" or self.precision == "fp32" or not on_cpu:
            return "fp32"
        return INT8 if all(members[name].backbone.storage == INT8 for name in graph.members) else "fp32"

    def runner_parameters(self, graph: Graph, precision: str = "fp32") -> dict[str, str]:
        """What serving/runner/runner.py is told."""
        runtime = self.runtime_of(graph)
        if runtime != "onnxruntime":
            parameters = {"model_file": "model.plan" if runtime == "tensorrt" else "model.onnx", "runtime": runtime}
            if graph.kind == "backbone":  # in portions no longer than engines take; the card is full with one
                parameters |= {"num_threads": "1", "frames_per_run": str(specs.PROFILES["backbone"]["T"].most)}
            return parameters
        if graph.kind != "backbone":
            # One thread for the cheap graphs: waking a second one costs them more than it saves.
            return {"model_file": "model.onnx", "num_threads": "1"}
        return {
            "model_file": "model.onnx",
            "num_threads": str(self.num_threads or 0),
            "frames_per_run": str(specs.cpu_frames_per_run(precision)),
            "niceness": str(specs.CPU_BACKBONE_NICENESS),
        }

    def num_instances(self, graph: Graph) -> int:
        """How many instances of a graph compute side by side."""
        on_cpu = self.by_runner and self.runtime_of(graph) == "onnxruntime"
        return specs.CPU_BACKBONE_INSTANCES if graph.kind == "backbone" and on_cpu else 1

    def queue_limit(self, graph: Graph) -> int | None:
        """How many requests may wait for a graph; None for any number.

        Where a queue has a limit, tritonserver 2.51 prepares no batch while all instances compute: who arrives then
        waits for the next arrival, or for half a second. With two instances that is rare (``benchmarks/bursts.py``).
        """
        if graph.kind != "backbone":
            return None
        return self.max_queue or (specs.MAX_QUEUE_SIZE if self.num_instances(graph) > 1 else None)
