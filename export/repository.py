"""Bundles to a model repository: one folder a model, ``config.pbtxt`` built as protobuf from ``core``.

    <repository>/
        classify/config.pbtxt, 1/                 ensemble: wiring, and what a client must know
        preprocess/config.pbtxt, 1/model.onnx     CPU in every flavour
        backbone_<member>/, head_<member>/        1/model.onnx, or 1/model.plan built on the card that runs it
        average_<member>/config.pbtxt, labels.txt, 1/model.onnx

Torch and ONNX are not needed: the graphs lie ready in the bundles.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.core import specs
from reelkind.core.bundle import Bundle, weights_hash
from reelkind.core.specs import Ensemble, Graph
from reelkind.core.taxonomy import CLASSES
from reelkind.core.tensors import CONTRACT_VERSION, TensorSpec
from reelkind.core.video import FRAME_SIZE_PX

from .errors import ExportError
from .origin import find_graph_file

FLAVOURS = ("tensorrt", "onnxruntime", "python")
VERSION_FOLDER = "1"
LABELS_NAME = "labels.txt"
KEEP_NAME = ".gitkeep"  # version folders must survive a checkout, ensembles have nothing else in theirs

_RUNNER = Path(__file__).resolve().parents[1] / "serving" / "runner.py"  # read, never imported
_WARMUP_LENGTHS = {"V": 1, "H": FRAME_SIZE_PX, "W": FRAME_SIZE_PX}


def standard_ensembles(bundles: Sequence[Bundle]) -> list[Ensemble]:
    """``classify`` and ``classify_tta`` of the first member; ``classify_ensemble`` and its ``_tta`` of all, if more.

    Raises:
        ExportError: if two members carry the same name.
    """
    names = [bundle.name for bundle in bundles]
    if len(set(names)) != len(names):
        raise ExportError(f"members must have different names, got {', '.join(names)}: rename one in its bundle.json")
    groups = {specs.DEFAULT_ENSEMBLE: list(bundles[:1])}
    if len(bundles) > 1:
        groups[f"{specs.DEFAULT_ENSEMBLE}_ensemble"] = list(bundles)
    return [
        specs.classify_ensemble(members, name if views == "single" else f"{name}_{views}", views)
        for name, members in groups.items()
        for views in specs.VIEWS
    ]


def write_repository(
    folder: str | os.PathLike[str],
    ensembles: Sequence[Ensemble],
    bundles: Iterable[Bundle],
    flavour: str,
    *,
    num_threads: int | None = None,
    graphs: bool = True,
) -> list[str]:
    """Write (over) the models that the ensembles need; other folders are left alone.

    Args:
        folder: the repository; created.
        ensembles: what to serve.
        bundles: at least the members of the ensembles, with exported graphs.
        flavour: who executes the graphs, one of ``FLAVOURS``.
        num_threads: CPU threads inside one operator; None leaves it to the runtime (all cores).
        graphs: False leaves the ONNX files out, as it is checked in.

    Returns:
        Model names, composing models before ensembles.

    Raises:
        ExportError: if the flavour is unknown, a member's bundle is not given, a graph is missing or stale, or
            something that is no model is in the way.
    """
    if flavour not in FLAVOURS:
        raise ExportError(f"unknown flavour {flavour!r} (known: {', '.join(FLAVOURS)})")
    members = {bundle.name: bundle for bundle in bundles}
    absent = {name for ensemble in ensembles for name in ensemble.members} - members.keys()
    if absent:
        raise ExportError(f"no bundle given for {', '.join(sorted(absent))}; given: {', '.join(members) or 'none'}")
    composing = {step.graph.name: step.graph for ensemble in ensembles for step in ensemble.steps}
    for graph in composing.values():
        model = Path(folder, graph.name)
        version = _write_model(model, _graph_config(graph, flavour, num_threads))
        if graph.kind == "average":
            (model / LABELS_NAME).write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
        if graphs and not _runs_as_engine(graph, flavour):
            shutil.copyfile(find_graph_file(graph, members), version / "model.onnx")
        if flavour == "python":
            shutil.copyfile(_RUNNER, version / "model.py")
    for ensemble in ensembles:
        _write_model(Path(folder, ensemble.name), ensemble_config(ensemble, members))
    return [*composing, *(ensemble.name for ensemble in ensembles)]


def ensemble_config(ensemble: Ensemble, bundles: dict[str, Bundle]) -> pb.ModelConfig:
    """Wiring of an ensemble, and as parameters what a client must know before its first request."""
    config = _bordered_config(ensemble.name, ensemble.inputs, ensemble.outputs)
    config.platform = "ensemble"
    for step in ensemble.steps:
        added = config.ensemble_scheduling.step.add(model_name=step.graph.name, model_version=-1)
        added.input_map.update(step.input_map)
        added.output_map.update(step.output_map)
    members = [bundles[name] for name in ensemble.members]
    parameters = {
        "contract_version": CONTRACT_VERSION,
        "reelkind_version": metadata.version("reelkind"),
        "num_frames": str(max(bundle.num_frames for bundle in members)),
        "frame_size_px": str(max(bundle.backbone.frame_size_px for bundle in members)),
        "classes": ",".join(CLASSES),
        "members": ",".join(ensemble.members),
        "views": ",".join(specs.VIEWS[ensemble.views]),
        "trained": "true" if all(bundle.trained for bundle in members) else "false",
        "weights": ",".join(weights_hash(bundle) for bundle in members),
    }
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def _graph_config(graph: Graph, flavour: str, num_threads: int | None) -> pb.ModelConfig:
    config = _bordered_config(graph.name, graph.inputs, graph.outputs)
    batching = config.dynamic_batching
    if graph.kind == "backbone" and flavour != "python":
        # The work worth sharing, where a batch costs less than its parts; every other step takes who waits already.
        batching.max_queue_delay_microseconds = specs.QUEUE_DELAY_US
    policy = batching.default_queue_policy
    policy.timeout_action = pb.ModelQueuePolicy.REJECT
    policy.default_timeout_microseconds = specs.QUEUE_TIMEOUT_US
    policy.allow_timeout_override = True
    policy.max_queue_size = specs.MAX_QUEUE_SIZE
    on_cpu = flavour == "python" or graph.kind in ("preprocess", "average")
    kind = pb.ModelInstanceGroup.KIND_CPU if on_cpu else pb.ModelInstanceGroup.KIND_AUTO
    if _runs_as_engine(graph, flavour):
        config.platform, kind = "tensorrt_plan", pb.ModelInstanceGroup.KIND_GPU
    elif flavour == "python":
        config.backend = "python"
        config.parameters["model_file"].string_value = "model.onnx"
        # One thread for the cheap graphs: waking a second one costs them more than it saves.
        config.parameters["num_threads"].string_value = str(num_threads or 0) if graph.kind == "backbone" else "1"
        if graph.kind == "backbone":
            config.parameters["frames_per_run"].string_value = str(specs.CPU_FRAMES_PER_RUN)
    else:
        config.backend = "onnxruntime"
        if num_threads is not None:
            config.parameters["intra_op_thread_count"].string_value = str(num_threads)
    several = flavour == "python" and graph.kind == "backbone"
    config.instance_group.add(count=specs.CPU_BACKBONE_INSTANCES if several else 1, kind=kind)
    for num_frames in (1, specs.WARMUP_FRAMES):
        _add_warmup(config, graph.inputs, num_frames)
    if graph.kind == "average":
        config.output[0].label_filename = LABELS_NAME
    return config


def _runs_as_engine(graph: Graph, flavour: str) -> bool:
    return flavour == "tensorrt" and graph.kind in ("backbone", "head")


def _bordered_config(name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, max_batch_size=specs.MAX_BATCH)
    for field, tensors in ((config.input, inputs), (config.output, outputs)):
        for spec in tensors:
            field.add(name=spec.name, data_type=pb.DataType.Value(spec.triton_type), dims=spec.triton_dims)
    config.version_policy.latest.num_versions = 1
    return config


def _add_warmup(config: pb.ModelConfig, inputs: Sequence[TensorSpec], num_frames: int) -> None:
    lengths = _WARMUP_LENGTHS | {"T": num_frames}
    warmup = config.model_warmup.add(name=f"frames_{num_frames}", batch_size=1)
    for spec in inputs:
        warmup.inputs[spec.name].CopyFrom(
            pb.ModelWarmup.Input(
                data_type=pb.DataType.Value(spec.triton_type),
                dims=[axis if isinstance(axis, int) else lengths[axis] for axis in spec.shape[1:]],
                zero_data=True,
            )
        )


def _write_model(folder: Path, config: pb.ModelConfig) -> Path:
    """Start the model's folder afresh and return its version folder."""
    if folder.exists():
        if not (folder / "config.pbtxt").is_file():
            raise ExportError(f"{folder} is in the way and is no model (no config.pbtxt): choose another folder")
        shutil.rmtree(folder)
    version = folder / VERSION_FOLDER
    version.mkdir(parents=True)
    (version / KEEP_NAME).touch()
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config), encoding="utf-8")
    return version
