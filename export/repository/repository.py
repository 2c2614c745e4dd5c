"""Bundles to a model repository: one folder a model, ``config.pbtxt`` built as protobuf from ``core``.

    <repository>/
        classify/config.pbtxt, 1/                 ensemble: wiring, and what a client must know; so are features_*
        preprocess/config.pbtxt, 1/model.onnx     CPU in every flavour; so are temporal_*
        backbone_<member>/, head_<member>/        1/model.onnx, or 1/model.plan built on the card that runs it
        average_<member>/config.pbtxt, labels.txt, 1/model.onnx

Torch and ONNX are not needed: the graphs lie ready in the bundles. Only the average of a set of members that nobody
has exported is made here, for which the package ``onnx`` is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.core import abstaining, specs, tensors
from reelkind.core.bundle import Bundle, weights_hash
from reelkind.core.ensembles import Ensemble, deployment
from reelkind.core.files import checksums
from reelkind.core.files.whole_files import place_copy
from reelkind.core.specs import Graph
from reelkind.core.taxonomy.classes import CLASSES, learnt_by_all
from reelkind.core.tensors import CONTRACT_VERSION, TensorSpec
from reelkind.core.timing.clips import FRAME_SIZE_PX

from ..errors import ExportError
from .engine_files import find_engine
from .execution import Execution
from .graph_files import files_beside, find_graph_file
from .members import joint_average, member_weights
from .stale import refuse_stale_ensembles

VERSION_FOLDER = "1"
LABELS_NAME = "labels.txt"
KEEP_NAME = ".gitkeep"  # version folders must survive a checkout, ensembles have nothing else in theirs

_PACKAGE = Path(__file__).resolve().parents[2]
_RUNNER = {  # name in a version folder -> file that is copied there, never imported here
    "model.py": _PACKAGE / "serving" / "runner" / "runner.py",
    "executors.py": _PACKAGE / "serving" / "runner" / "executors.py",
    "numpy_guard.py": _PACKAGE / "serving" / "runner" / "numpy_guard.py",
    "checksums.py": _PACKAGE / "core" / "files" / "checksums.py",
}
_ENGINE_RUNNER = (_PACKAGE / "serving" / "runner" / "tensorrt_runtime.py", _PACKAGE / "core" / "cuda.py")
_PROGRAMS = {*_RUNNER, *(path.name for path in _ENGINE_RUNNER)}
_WARMUP_LENGTHS = {"V": 1, "P": len(specs.TEMPORAL_VIEWS), "H": FRAME_SIZE_PX, "W": FRAME_SIZE_PX, "D": 1}


def standard_ensembles(bundles: Sequence[Bundle], names: Collection[str] | None = None) -> list[Ensemble]:
    """Every ensemble that is served with these members, the first being the default one; or those of given names.

    Raises:
        ExportError: if two members carry the same name, names of models meet, or there is no ensemble of a name.
    """
    members = [bundle.name for bundle in bundles]
    if len(set(members)) != len(members):
        raise ExportError(f"members must have different names, got {', '.join(members)}: rename one in its bundle.json")
    try:
        ensembles = {ensemble.name: ensemble for ensemble in deployment(bundles)}
    except ValueError as error:
        raise ExportError(str(error)) from error
    unknown = sorted(set(names or ()) - ensembles.keys())
    if unknown:
        raise ExportError(f"no ensemble is called {', '.join(unknown)} (there are: {', '.join(ensembles)})")
    return [ensemble for name, ensemble in ensembles.items() if names is None or name in names]


def write_repository(
    folder: str | os.PathLike[str],
    ensembles: Sequence[Ensemble],
    bundles: Iterable[Bundle],
    flavour: str,
    *,
    num_threads: int | None = None,
    runtime: str = "onnxruntime",
    without_engine: Collection[str] = (),
    engines: str | os.PathLike[str] | None = None,
    max_queue: int | None = None,
    graphs: bool = True,
    precision: str = "auto",
) -> list[str]:
    """Write (over) the models that the ensembles need; other folders are left alone.

    Args:
        folder: the repository; created.
        ensembles: what to serve.
        bundles: at least the members of the ensembles, with exported graphs.
        flavour: who executes the graphs, one of ``FLAVOURS``.
        num_threads: CPU threads inside one operator; None leaves it to the runtime (all cores).
        runtime: what the Python backend executes backbones and heads with, one of ``RUNTIMES``.
        without_engine: models that ONNX Runtime executes although others run as engines.
        engines: folder of built engines; without one the version folders of engines stay empty.
        max_queue: requests that may wait for a backbone; None for the default of the flavour, see ``Execution``.
        graphs: False leaves ONNX files and engines out, as it is checked in.
        precision: of backbones on a CPU, one of ``CPU_PRECISIONS``.

    Returns:
        Model names, composing models before ensembles.

    Raises:
        ExportError: if flavour or runtime are unknown, a member's bundle is not given, a graph or an engine is missing
            or stale, or something that is no model is in the way, or versions that were promoted are, or an ensemble
            that stays is of other members of these names.
    """
    execution = Execution(flavour, runtime, num_threads, frozenset(without_engine), max_queue, precision)
    if engines is not None and not execution.has_engines:
        raise ExportError(f"nothing runs the engines in {engines}: flavour {flavour} on {runtime} has none")
    members = {bundle.name: bundle for bundle in bundles}
    absent = {name for ensemble in ensembles for name in ensemble.members} - members.keys()
    if absent:
        raise ExportError(f"no bundle given for {', '.join(sorted(absent))}; given: {', '.join(members) or 'none'}")
    composing = {step.graph.name: step.graph for ensemble in ensembles for step in ensemble.steps}
    unknown = sorted(execution.without_engine - {name for name, graph in composing.items() if graph.is_network})
    if unknown:
        raise ExportError(f"no backbone or head is called {', '.join(unknown)} (there are: {', '.join(composing)})")
    promoted = next(Path(folder).glob("*/generations/current"), None)
    if promoted is not None:
        raise ExportError(f"{folder} holds versions that were promoted ({promoted}): choose another folder")
    refuse_stale_ensembles(Path(folder), {ensemble.name for ensemble in ensembles}, members)
    for graph in composing.values():
        files: dict[str, Path | bytes] = {**_runner_files(graph, execution)}
        if graphs:
            files |= _graph_files(graph, execution, members, engines)
        model = Path(folder, graph.name)
        version = _write_model(model, _graph_config(graph, execution, members))
        if graph.kind == "average":
            (model / LABELS_NAME).write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
        for name, source in files.items():
            if isinstance(source, bytes):
                (version / name).write_bytes(source)
            else:
                place_copy(source, version / name)
        for name in files.keys() - _PROGRAMS:
            checksums.record(version / name)
    precisions = {
        name: execution.precision_of(specs.backbone_graph(bundle), members) for name, bundle in members.items()
    }
    for ensemble in ensembles:
        _write_model(Path(folder, ensemble.name), ensemble_config(ensemble, members, precisions))
    return [*composing, *(ensemble.name for ensemble in ensembles)]


def ensemble_config(
    ensemble: Ensemble, bundles: dict[str, Bundle], precisions: Mapping[str, str] | None = None
) -> pb.ModelConfig:
    """Wiring of an ensemble, and as parameters what a client must know before its first request.

    Args:
        ensemble: what is served.
        bundles: at least its members, by name.
        precisions: member -> how its backbone computes; said where one of them multiplies integers.
    """
    config = _bordered_config(ensemble.name, ensemble.inputs, ensemble.outputs)
    config.platform = "ensemble"
    for step in ensemble.steps:
        added = config.ensemble_scheduling.step.add(model_name=step.graph.name, model_version=-1)
        added.input_map.update(step.input_map)
        added.output_map.update(step.output_map)
    parameters = _parameters(ensemble, bundles)
    computed = [(precisions or {}).get(name, "") for name in ensemble.members]
    if specs.INT8 in computed:
        parameters["precisions"] = ",".join(computed)
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    return config


def _parameters(ensemble: Ensemble, bundles: dict[str, Bundle]) -> dict[str, str]:
    members = [bundles[name] for name in ensemble.members]
    shares = member_weights(members)
    parameters = {
        "contract_version": CONTRACT_VERSION,
        "reelkind_version": metadata.version("reelkind"),
        "kind": ensemble.kind,
        "num_frames": str(max(bundle.num_frames for bundle in members)),
        "frame_size_px": str(max(bundle.backbone.frame_size_px for bundle in members)),
        "classes": ",".join(CLASSES),
        "members": ",".join(ensemble.members),
        "member_weights": ",".join(f"{share:.6g}" for share in shares),
        "temperatures": ",".join(repr(bundle.temperature) for bundle in members),
        "feature_dims": ",".join(str(bundle.backbone.feature_dim) for bundle in members),
        "views": ",".join(ensemble.views),
        "temporal_views": ",".join(ensemble.temporal_views),
        "trained": "true" if all(bundle.trained for bundle in members) else "false",
        "untrained": ",".join(bundle.name for bundle in members if not bundle.trained),
        "weights": ",".join(weights_hash(bundle) for bundle in members),
    }
    abstain_below = abstaining.threshold(members) if len(set(shares)) == 1 else None  # measured with equal shares
    if abstain_below is not None and ensemble.kind != "features":
        parameters["abstain_below"] = repr(abstain_below)  # not rounded: it lies just where an answer is
    if tensors.SUBCATEGORIES in ensemble.outputs:
        named = learnt_by_all(bundle.subcategories_learnt for bundle in members)
        parameters["subcategories_learnt"] = ",".join(named)
    return parameters


def _runner_files(graph: Graph, execution: Execution) -> dict[str, Path]:
    """Name in the version folder -> Python file that is copied there."""
    if not execution.by_runner:
        return {}
    return _RUNNER | ({path.name: path for path in _ENGINE_RUNNER} if execution.uses_engine(graph) else {})


def _graph_files(
    graph: Graph, execution: Execution, members: dict[str, Bundle], engines: str | os.PathLike[str] | None
) -> dict[str, Path | bytes]:
    """Name in the version folder -> graph or engine that is copied there, or its bytes."""
    if len(graph.members) > 1:
        return {"model.onnx": joint_average(graph, members)}
    if not execution.uses_engine(graph):
        beside = {path.name: path for path in files_beside(graph, members)}
        return {"model.onnx": find_graph_file(graph, members, execution.precision_of(graph, members)), **beside}
    return {} if engines is None else {"model.plan": find_engine(engines, graph, members)}


def _graph_config(graph: Graph, execution: Execution, members: Mapping[str, Bundle]) -> pb.ModelConfig:
    config = _bordered_config(graph.name, graph.inputs, graph.outputs)
    if graph.is_network:
        _batch(config.dynamic_batching, graph, execution)
    kind = pb.ModelInstanceGroup.KIND_AUTO
    if execution.by_runner:
        kind = pb.ModelInstanceGroup.KIND_CPU  # tensors are the host's; the runner takes them to a GPU itself
        config.backend = "python"
        for name, value in execution.runner_parameters(graph, execution.precision_of(graph, members)).items():
            config.parameters[name].string_value = value
    elif execution.uses_engine(graph):
        config.platform, kind = "tensorrt_plan", pb.ModelInstanceGroup.KIND_GPU
    else:
        config.backend = "onnxruntime"
        num_threads = execution.num_threads
        if execution.precision_of(graph, members) == specs.INT8:
            kind = pb.ModelInstanceGroup.KIND_CPU  # a GPU has no kernels for it: --precision fp32 where there is one
        if not graph.is_network:
            kind, num_threads = pb.ModelInstanceGroup.KIND_CPU, 1  # else they keep all cores spinning, for no gain
        if num_threads is not None:
            config.parameters["intra_op_thread_count"].string_value = str(num_threads)
    config.instance_group.add(count=execution.num_instances(graph), kind=kind)
    for num_frames in (1, specs.WARMUP_FRAMES):
        _add_warmup(config, graph.inputs, num_frames)
    if graph.kind == "average":
        config.output[0].label_filename = LABELS_NAME
    return config


def _batch(batching: pb.ModelDynamicBatching, graph: Graph, execution: Execution) -> None:
    """Let requests that wait share an execution; the graphs that cost next to nothing do without a batcher."""
    batching.SetInParent()
    if graph.kind == "backbone" and not execution.by_runner:
        # The work worth sharing, where a batch costs less than its parts; every other step takes who waits already.
        batching.max_queue_delay_microseconds = specs.QUEUE_DELAY_US
    max_queue = execution.queue_limit(graph)
    if max_queue is not None:
        policy = batching.default_queue_policy
        policy.timeout_action = pb.ModelQueuePolicy.REJECT
        policy.default_timeout_microseconds = specs.QUEUE_TIMEOUT_US
        policy.allow_timeout_override = True
        policy.max_queue_size = max_queue


def _bordered_config(name: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> pb.ModelConfig:
    config = pb.ModelConfig(name=name, max_batch_size=specs.MAX_BATCH)
    for field, border in ((config.input, inputs), (config.output, outputs)):
        for spec in border:
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
