"""Engines on disk: planned anywhere, built where a card is, built anew when what they depend on changes."""

import json
import logging
import shutil
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from standin_tensorrt import StandinDevice, standin_tensorrt
from tritonclient.grpc import model_config_pb2 as pb

from reelkind.cli.main import main
from reelkind.core import bundle as bundles_on_disk
from reelkind.core import cuda, specs
from reelkind.core.bundle import Bundle
from reelkind.core.files import checksums
from reelkind.deployment.embedded import temporary_repository
from reelkind.export.errors import ExportError
from reelkind.export.repository.engine_files import engine_path, find_engine
from reelkind.export.repository.repository import standard_ensembles, write_repository
from reelkind.export.tensorrt.engines import build_engines, plan_engines
from reelkind.serving.install.runtime import Runtime


def has_driver() -> bool:
    try:
        cuda.Device()
    except cuda.CudaError:
        return False
    return True


without_gpu = pytest.mark.skipif(has_driver(), reason="this machine has a GPU")


@without_gpu
def test_dry_run_says_what_would_be_built(
    with_half: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "engines"
    command = ["export", "engine", "--bundle", str(with_half.path()), "--out", str(out), "--dry-run"]
    assert main(command) == 0
    backbone, head = capsys.readouterr().out.splitlines()
    assert "views [1, 1, 1, 3, 224, 224] .. [4, 1, 16, 3, 224, 224] .. [4, 4, 32, 3, 224, 224]" in backbone
    assert "fp16 from" in backbone
    assert f"[4, 12, 300, {with_half.head.feature_dim}]" in head
    assert not out.exists()


@without_gpu
def test_without_a_driver_one_line_says_so(with_half: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "engine", "--bundle", str(with_half.path())]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no NVIDIA driver here (libcuda.so.1 is missing)" in error
    assert "--dry-run" in error


def test_missing_half_graphs_say_how_to_make_them(shipped: Bundle, tmp_path: Path) -> None:
    shutil.copytree(shipped.path(), tmp_path / "lite", ignore=shutil.ignore_patterns("fp16"))
    with pytest.raises(ExportError, match=r"run: reelkind export onnx --precision fp16 --bundle"):
        plan_engines([bundles_on_disk.load(tmp_path / "lite")], "fp16")


@pytest.fixture
def build(with_half: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def build(bundle: Bundle = with_half, **card: object) -> list[str]:
        version = card.pop("version", "10.16.1")
        device = StandinDevice(**card)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "tensorrt", standin_tensorrt(device, version=str(version)))
        plans = plan_engines([bundle], "fp16")
        return [file.reason for file in build_engines(plans, tmp_path / "engines", device)]  # type: ignore[arg-type]

    return build


def test_standin_engines_are_built_once(build, tmp_path: Path) -> None:
    assert build() == ["not built yet"] * 2
    first = {path.name: path.read_bytes() for path in (tmp_path / "engines").iterdir()}
    assert set(first) == {
        *("backbone_lite.plan", "backbone_lite.json", "head_lite.plan", "head_lite.json"),
        "timing-tensorrt-10.16.1.cache",
    }
    assert first["timing-tensorrt-10.16.1.cache"] == b"tt"  # the second build got the times of the first
    assert build() == ["", ""]
    assert {path.name: path.read_bytes() for path in (tmp_path / "engines").iterdir()} == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_sms": 108}, "num_sms was 14, is 108"),
        ({"name": "Other card"}, "gpu was Stand-in, is Other card"),
        ({"version": "11.2"}, r"library was tensorrt 10.16.1, is tensorrt 11.2"),
    ],
    ids=["slice", "card", "release"],
)
def test_standin_engines_are_built_anew_for(build, change: dict[str, object], words: str) -> None:
    build()
    assert build(**change) == [words] * 2


def test_standin_engines_are_built_anew_for_another_graph(build, with_half: Bundle, tmp_path: Path) -> None:
    build()
    shutil.copytree(with_half.path(), tmp_path / "lite")
    head = tmp_path / "lite" / "onnx" / "fp16" / "head.onnx"
    head.write_bytes(head.read_bytes() + b"\x72\x00")  # an empty metadata entry: the same graph, other bytes
    checksums.record(head)
    backbone, changed = build(bundles_on_disk.load(tmp_path / "lite"))
    assert not backbone
    assert changed.startswith("onnx_sha256 was ")


@pytest.mark.parametrize("remains", ["", "{", "[]"], ids=["empty", "torn", "other"])
def test_standin_engine_with_a_damaged_key_is_built_anew(build, tmp_path: Path, remains: str) -> None:
    build()
    (tmp_path / "engines" / "head_lite.json").write_text(remains)
    assert build() == ["", "not built yet"]


def test_standin_engine_that_is_damaged_is_not_served_but_built_anew(build, with_half: Bundle, tmp_path: Path) -> None:
    build()
    plan = tmp_path / "engines" / "head_lite.plan"
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    with pytest.raises(ExportError, match=r"head_lite.plan is not what was built, by head_lite.json .*; run: "):
        find_engine(plan.parent, specs.head_graph(with_half), {"lite": with_half})
    assert build() == ["", "it is damaged"]


def test_standin_engines_go_into_the_repositories_that_run_them(build, with_half: Bundle, tmp_path: Path) -> None:
    build()
    engines = tmp_path / "engines"
    for flavour, runtime in (("tensorrt", "onnxruntime"), ("python", "tensorrt")):
        out = tmp_path / flavour
        ensembles = standard_ensembles([with_half])
        write_repository(out, ensembles, [with_half], flavour, runtime=runtime, engines=engines)
        for name in ("backbone_lite", "head_lite"):
            assert (out / name / "1" / "model.plan").read_bytes() == (engines / f"{name}.plan").read_bytes()
            assert not (out / name / "1" / "model.onnx").exists()


def test_standin_engines_are_served_from_bundles(build, with_half: Bundle, tmp_path: Path) -> None:
    build()
    container = Runtime(Path("tritonserver"), ("onnxruntime", "python", "tensorrt"), Path("backends"))
    engines, folders = tmp_path / "engines", [with_half.path()]
    with temporary_repository(folders, container, flavour="tensorrt", engines=engines) as repository:
        for name in ("backbone_lite", "head_lite"):
            assert (repository / name / "1" / "model.plan").read_bytes() == (engines / f"{name}.plan").read_bytes()


def test_standin_engines_of_another_graph_are_not_served(build, with_half: Bundle, tmp_path: Path) -> None:
    build()
    key = tmp_path / "engines" / "head_lite.json"
    key.write_text(json.dumps(json.loads(key.read_text()) | {"onnx_sha256": "0"}))
    with pytest.raises(ExportError, match=r"head_lite.plan was not made of .*head.onnx; run: reelkind export engine"):
        write_repository(tmp_path / "out", standard_ensembles([with_half]), [with_half], "tensorrt", engines=key.parent)


def test_repository_without_engines_names_the_one_that_lacks(with_half: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"backbone_lite\.plan is not in"):
        write_repository(tmp_path, standard_ensembles([with_half]), [with_half], "tensorrt", engines=tmp_path)


def test_a_head_can_be_left_to_onnx_runtime(shipped: Bundle, tmp_path: Path) -> None:
    write_repository(
        tmp_path, standard_ensembles([shipped]), [shipped], "tensorrt", without_engine=["head_lite"], graphs=False
    )
    backends = {}
    for name in ("backbone_lite", "head_lite"):
        config = text_format.Parse((tmp_path / name / "config.pbtxt").read_text(), pb.ModelConfig())
        backends[name] = (config.platform, config.backend, config.instance_group[0].kind)
    kinds = pb.ModelInstanceGroup
    assert backends == {
        "backbone_lite": ("tensorrt_plan", "", kinds.KIND_GPU),
        "head_lite": ("", "onnxruntime", kinds.KIND_AUTO),
    }


def test_models_that_are_no_networks_cannot_be_left_out(shipped: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no backbone or head is called average_lite"):
        write_repository(
            tmp_path, standard_ensembles([shipped]), [shipped], "tensorrt", without_engine=["average_lite"]
        )


def test_standin_build_tells_why_in_the_log(build, caplog: pytest.LogCaptureFixture) -> None:
    build()
    with caplog.at_level(logging.INFO, "reelkind.export.tensorrt.engines"):
        build(num_sms=7)
    assert "head_lite: num_sms was 14, is 7" in caplog.text


def test_an_interrupted_write_leaves_no_engine(with_half: Bundle, tmp_path: Path) -> None:
    (plan, _) = plan_engines([with_half], "fp16")
    path = engine_path(tmp_path, plan.graph)
    path.with_name(f"{path.name}.part").write_bytes(b"half of it")
    with pytest.raises(ExportError, match=r"backbone_lite\.plan is not in"):
        write_repository(tmp_path / "out", standard_ensembles([with_half]), [with_half], "tensorrt", engines=tmp_path)


def test_profiles_hold_the_batches_views_and_warmups_of_the_server(shipped: Bundle) -> None:
    for graph, num_views in (
        (specs.backbone_graph(shipped), specs.MAX_VIEWS),
        (specs.head_graph(shipped), specs.MAX_PASSES),
    ):
        ranges = specs.PROFILES[graph.kind]
        assert all(span.least <= span.best <= span.most for span in ranges.values())
        assert (ranges["B"].most, ranges["V"].most) == (specs.MAX_BATCH, num_views)
        assert ranges["T"].least == 1 <= specs.WARMUP_FRAMES <= ranges["T"].most
    assert specs.PROFILES["head"]["T"].most == specs.MAX_FRAMES


@pytest.mark.parametrize(
    ("flavour", "options", "words"),
    [
        ("tensorrt", {"runtime": "tensorrt"}, "runtime tensorrt is for flavour python, the flavour here is tensorrt"),
        ("onnxruntime", {"engines": "any"}, "nothing runs the engines in any: flavour onnxruntime on onnxruntime"),
        ("python", {"without_engine": ["head_lite"]}, "no engine to do without: flavour python on onnxruntime"),
        ("python", {"runtime": "abacus"}, "unknown runtime 'abacus'"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    shipped: Bundle, tmp_path: Path, flavour: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        write_repository(tmp_path, standard_ensembles([shipped]), [shipped], flavour, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
