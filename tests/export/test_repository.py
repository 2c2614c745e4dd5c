"""Model repositories: complete, parseable, and as checked in."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.core import bundle as bundles_on_disk
from reelkind.core import specs
from reelkind.core.bundle import Bundle
from reelkind.core.taxonomy import CLASSES
from reelkind.export.errors import ExportError
from reelkind.export.execution import FLAVOURS
from reelkind.export.repository import standard_ensembles, write_repository


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def config(folder: Path, name: str) -> pb.ModelConfig:
    return text_format.Parse((folder / name / "config.pbtxt").read_text(encoding="utf-8"), pb.ModelConfig())


@pytest.fixture(scope="module", params=FLAVOURS)
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lite: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("repository") / request.param
    names = write_repository(folder, standard_ensembles([lite]), [lite], request.param, num_threads=2)
    assert set(names) == {path.name for path in folder.iterdir()}
    return folder


def test_every_config_parses_and_has_a_version_folder(repository: Path) -> None:
    for model in repository.iterdir():
        parsed = config(repository, model.name)
        assert parsed.name == model.name
        assert parsed.max_batch_size == specs.MAX_BATCH
        assert (model / "1").is_dir()


def test_ensemble_wiring_is_closed(repository: Path) -> None:
    ensemble = config(repository, "classify_tta")
    known = {tensor.name for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = config(repository, step.model_name)
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        assert set(step.output_map) == {tensor.name for tensor in model.output}
        assert set(step.input_map.values()) <= known
        known |= set(step.output_map.values())
    assert {tensor.name for tensor in ensemble.output} <= known


def test_ensemble_tells_a_client_what_it_must_know(repository: Path, lite: Bundle) -> None:
    parameters = {key: value.string_value for key, value in config(repository, "classify_tta").parameters.items()}
    del parameters["reelkind_version"]
    assert parameters == {
        "contract_version": "1",
        "num_frames": "16",
        "frame_size_px": "224",
        "classes": "animation,gaming,natural,flat",
        "members": "lite",
        "views": "identity,flip",
        "trained": "true" if lite.trained else "false",
        "weights": bundles_on_disk.weights_hash(lite),
    }


def test_composing_models_batch_queue_and_warm_up(repository: Path) -> None:
    for name in ("preprocess", "backbone_lite", "head_lite", "average_lite"):
        model = config(repository, name)
        policy = model.dynamic_batching.default_queue_policy
        assert policy.timeout_action == pb.ModelQueuePolicy.REJECT
        assert (policy.max_queue_size, policy.default_timeout_microseconds) == (64, 60_000_000)
        assert policy.allow_timeout_override
        assert [warmup.batch_size for warmup in model.model_warmup] == [1, 1]
        for warmup, num_frames in zip(model.model_warmup, (1, 16), strict=True):
            assert set(warmup.inputs) == {tensor.name for tensor in model.input}
            for tensor in model.input:
                dims = warmup.inputs[tensor.name].dims
                assert len(dims) == len(tensor.dims)
                assert all(free in (-1, fixed) for free, fixed in zip(tensor.dims, dims, strict=True))
            assert name == "average_lite" or num_frames in next(iter(warmup.inputs.values())).dims


def test_only_a_backbone_with_a_batch_to_gain_waits_for_company(repository: Path) -> None:
    delays = {
        model.name: config(repository, model.name).dynamic_batching.max_queue_delay_microseconds
        for model in repository.iterdir()
    }
    on_cpu = config(repository, "backbone_lite").backend == "python"  # where a batch takes as long as its parts
    assert {name for name, delay in delays.items() if delay} == (set() if on_cpu else {"backbone_lite"})


def test_backbone_on_a_cpu_has_two_instances(repository: Path) -> None:
    counts = {
        model.name: sum(group.count for group in config(repository, model.name).instance_group)
        for model in repository.iterdir()
        if not model.name.startswith("classify")
    }
    on_cpu = config(repository, "backbone_lite").backend == "python"
    assert counts.pop("backbone_lite") == (specs.CPU_BACKBONE_INSTANCES if on_cpu else 1)
    assert set(counts.values()) == {1}


def test_flavour_chooses_who_executes_and_nothing_else(repository: Path) -> None:
    backbone, average = config(repository, "backbone_lite"), config(repository, "average_lite")
    present = {path.name for path in (repository / "backbone_lite" / "1").iterdir()} - {".gitkeep"}
    expected = {
        "tensorrt": ("", "tensorrt_plan", "onnxruntime", set()),
        "onnxruntime": ("onnxruntime", "", "onnxruntime", {"model.onnx"}),
        "python": ("python", "", "python", {"model.onnx", "model.py"}),
    }
    assert (backbone.backend, backbone.platform, average.backend, present) == expected[repository.name]
    assert average.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    assert (repository / "average_lite" / "1" / "model.onnx").is_file()


def test_python_flavour_tells_its_runner_what_to_run(tmp_path: Path, lite: Bundle, root: Path) -> None:
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "python", num_threads=2)
    parameters = config(tmp_path, "head_lite").parameters
    assert parameters["model_file"].string_value == "model.onnx"
    assert parameters["num_threads"].string_value == "1"  # a cheap graph
    backbone = config(tmp_path, "backbone_lite").parameters
    assert backbone["num_threads"].string_value == "2"
    assert backbone["frames_per_run"].string_value == str(specs.CPU_FRAMES_PER_RUN)
    assert "frames_per_run" not in parameters  # the head's graph mixes frames
    runner = (root / "serving" / "runner.py").read_bytes()
    assert (tmp_path / "head_lite" / "1" / "model.py").read_bytes() == runner


def test_labels_lie_beside_the_model_that_gives_probabilities(repository: Path) -> None:
    (probabilities,) = [tensor for tensor in config(repository, "average_lite").output if tensor.label_filename]
    assert probabilities.name == "probabilities"
    assert tuple((repository / "average_lite" / probabilities.label_filename).read_text().split()) == CLASSES


def test_two_members_make_four_ensembles(lite: Bundle) -> None:
    other = replace(lite, name="other")
    names = [ensemble.name for ensemble in standard_ensembles([lite, other])]
    assert names == ["classify", "classify_tta", "classify_ensemble", "classify_ensemble_tta"]


def test_two_members_of_one_name_are_refused(lite: Bundle) -> None:
    with pytest.raises(ExportError, match="different names, got lite, lite"):
        standard_ensembles([lite, lite])


def test_writing_again_removes_what_was_there(tmp_path: Path, lite: Bundle) -> None:
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "python")
    write_repository(tmp_path, standard_ensembles([lite]), [lite], "onnxruntime")
    assert not list(tmp_path.rglob("model.py"))


def test_what_is_no_model_is_not_overwritten(tmp_path: Path, lite: Bundle) -> None:
    notes = tmp_path / "classify" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with pytest.raises(ExportError, match="classify is in the way"):
        write_repository(tmp_path, standard_ensembles([lite]), [lite], "python")
    assert notes.read_text() == "mine"


@pytest.mark.parametrize("missing", ["head.onnx", "average.onnx"])
def test_missing_graphs_say_how_to_make_them(tmp_path: Path, lite: Bundle, missing: str) -> None:
    copy = copied(lite, tmp_path / "lite")
    copy.path("onnx", missing).unlink()
    with pytest.raises(ExportError, match=rf"{missing} .* run: reelkind export onnx --bundle .*lite"):
        write_repository(tmp_path / "repository", standard_ensembles([copy]), [copy], "python")


def test_graphs_of_another_temperature_are_refused(tmp_path: Path, lite: Bundle) -> None:
    warmer = replace(copied(lite, tmp_path / "lite"), temperature=2.5)
    with pytest.raises(ExportError, match=r"average.onnx was not made from the weights and temperature"):
        write_repository(tmp_path / "repository", standard_ensembles([warmer]), [warmer], "python")


def test_unknown_flavours_and_members_are_refused(tmp_path: Path, lite: Bundle) -> None:
    with pytest.raises(ExportError, match="unknown flavour 'openvino'"):
        write_repository(tmp_path, standard_ensembles([lite]), [lite], "openvino")
    with pytest.raises(ExportError, match="no bundle given for lite"):
        write_repository(tmp_path, standard_ensembles([lite]), [], "python")


def test_writing_a_repository_needs_neither_torch_nor_onnx() -> None:
    code = "import sys, reelkind.export.repository; print(*{'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_checked_in_repository_is_up_to_date(tmp_path: Path, shipped: Bundle, root: Path) -> None:
    write_repository(tmp_path, standard_ensembles([shipped]), [shipped], "tensorrt", graphs=False)
    folder = root / "model_repository"
    unversioned = {"README.md", ".gitignore"} | {str(path.relative_to(folder)) for path in folder.glob("*/1/model.*")}
    kept = {name: data for name, data in files(folder).items() if name not in unversioned}
    assert files(tmp_path) == kept, "run: make export"


def copied(bundle: Bundle, folder: Path) -> Bundle:
    for path in bundle.path().rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(bundle.path())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return bundles_on_disk.load(folder)
