"""`reelkind evaluate` on made-up videos through the packaged bundle's real graphs."""

import argparse
import csv
import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from videos import bars, corners, write_video

from reelkind.cli import evaluate
from reelkind.cli.main import main
from reelkind.core import bundle as bundles
from reelkind.core.abstaining import threshold
from reelkind.core.bundle import HELD_OUT_NAME, Bundle
from reelkind.core.errors import ReelkindError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.video.clip import read_clip

pytest.importorskip("onnxruntime", reason="the graphs are executed by ONNX Runtime")
pytest.importorskip("sklearn", reason="part of the extra train")
pytest.importorskip("torch", reason="part of the extra train")

from reelkind.datasets.samples import read_samples
from reelkind.datasets.seen import write_seen
from reelkind.evaluation.measures import predictions
from reelkind.evaluation.measures.predictions import Predictions
from reelkind.export.onnx_files import export_average
from reelkind.export.pipelines.reference import OnnxPipeline
from reelkind.export.untrained import write_untrained_bundle

Row = tuple[str, str, str, str]  # path, class, work, split
VAL: list[Row] = [
    ("val/bars.mp4", "flat", "bars", "val"),
    ("val/ecken ü.mp4", "animation", "corners", "val"),
    ("val/noise.mp4", "natural", "noise", "val"),
]
TRAIN: list[Row] = [(f"train/{i}.mp4", ("flat", "animation")[i % 2], f"train {i}", "train") for i in range(4)]


def noise(index: int, width_px: int, height_px: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def write_manifest(folder: Path, rows: Sequence[Row]) -> None:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "class", "work", "split"), *rows])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clips to measure on and four to train baselines on."""
    folder = tmp_path / "data" / "clips"
    for name in ("val", "train"):
        (folder / name).mkdir(parents=True)
    for (name, *_), picture in zip(VAL, (bars, corners, noise), strict=True):
        write_video(folder / name, 6, picture=picture)
    for i, (name, *_) in enumerate(TRAIN):
        write_video(folder / name, 3 + i, picture=(bars, corners)[i % 2])
    write_manifest(folder, [*VAL, *TRAIN])
    return folder.parent


@pytest.fixture
def twin(served_bundle: Bundle, tmp_path: Path) -> Path:
    """The packaged bundle under another name and with another temperature."""
    folder = tmp_path / "twin"
    shutil.copytree(served_bundle.path(), folder)
    export_average([bundles.save(dataclasses.replace(served_bundle, name="twin", temperature=2.0), folder)])
    return folder


def run(data: Path, *arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="reelkind")
    evaluate.add_parser(parser.add_subparsers())
    fixed = ["--data", data, "--out", data.parent / "report", "--cache", data.parent / "cache", "--workers", 1]
    args = parser.parse_args(["evaluate", *map(str, [*arguments, *fixed])])
    status: int = args.run(args)
    return status


def written(data: Path) -> dict:
    return json.loads((data.parent / "report" / "report.json").read_text(encoding="utf-8"))


def test_the_report_counts_what_the_graphs_answer(
    served_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(data, served_bundle.path()) == 0
    found = written(data)["members"][served_bundle.name]
    pipeline, size = OnnxPipeline(served_bundle.path()), served_bundle.backbone.frame_size_px
    for name, true, *_ in VAL:
        clip = read_clip(data / "clips" / name, num_frames=served_bundle.num_frames, size_px=size)
        answer = pipeline(clip.frames[None])["probabilities"][0]
        wrong = {each["name"]: each for each in found["wrong"]}.get(f"clips/{name}")
        assert (wrong is None) == (CLASSES[answer.argmax()] == true)
        if wrong is not None:
            assert wrong["confidence"] == pytest.approx(answer.max(), abs=1e-3)
    assert found["num_clips"] == 3
    captured = capsys.readouterr()
    assert f"| `{served_bundle.name}` | 3 | 3 | {found['accuracy']:.3f} (" in captured.out
    assert (data.parent / "report" / f"{served_bundle.name}-confusion.png").stat().st_size > 1000


def test_nothing_is_predicted_twice(served_bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(data, served_bundle.path(), "--tta") == 0
    first = written(data)

    def refuse(*arguments: object) -> None:
        raise AssertionError("predicted again")

    monkeypatch.setattr(OnnxPipeline, "__call__", refuse)
    (data / "clips" / "val" / "noise.mp4").rename(data / "clips" / "val" / "moved.mp4")
    write_manifest(data / "clips", [*VAL[:2], ("val/moved.mp4", "natural", "noise", "val")])
    assert run(data, served_bundle.path()) == 0
    second = written(data)
    assert "tta" in first["members"][served_bundle.name]
    assert second["members"][served_bundle.name]["confusion"] == first["members"][served_bundle.name]["confusion"]


def test_bad_files_are_named_and_the_others_measured(
    served_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture
) -> None:
    (data / "clips" / "val" / "bars.mp4").write_bytes(b"no video")
    write_manifest(data / "clips", [*VAL, ("val/gone.mp4", "flat", "gone", "val")])
    assert run(data, served_bundle.path(), "--json") == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert set(report["problems"]) == {"clips/val/bars.mp4", "clips/val/gone.mp4"}
    assert report["members"][served_bundle.name]["num_clips"] == 2
    assert "bars.mp4: not a readable video" in captured.err
    assert "`clips/val/gone.mp4`: " in (data.parent / "report" / "README.md").read_text(encoding="utf-8")


def test_a_damaged_kept_answer_is_made_again(served_bundle: Bundle, data: Path) -> None:
    assert run(data, served_bundle.path()) == 0
    first = written(data)
    for kept in (data.parent / "cache").rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:40])
    assert run(data, served_bundle.path()) == 0
    assert written(data) == first


def test_several_bundles_are_an_ensemble(served_bundle: Bundle, twin: Path, data: Path) -> None:
    assert run(data, served_bundle.path(), twin) == 0
    report = written(data)
    assert list(report["members"]) == [served_bundle.name, "twin"]
    (pair,) = report["comparisons"]
    assert (pair["difference"], pair["p_value"]) == (0, 1)  # a temperature changes no label
    assert [row["without"] for row in report["ensemble"]["leave_one_out"]] == [served_bundle.name, "twin"]
    page = (data.parent / "report" / "README.md").read_text(encoding="utf-8")
    assert "ensemble, fitted weights" in page


def test_the_threshold_of_an_ensemble_is_chosen_on_validation_and_kept(
    served_bundle: Bundle, twin: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copytree(served_bundle.path(), tmp_path / "own")
    together = [tmp_path / "own", twin]
    assert run(data, *together, "--record") == 0
    chosen = written(data)["ensemble"]["abstain"]
    assert chosen["chosen_on"] == "these clips"
    assert threshold([bundles.load(folder) for folder in together]) == chosen["abstain_below"]
    write_manifest(data / "clips", [(path, name, work, "test") for path, name, work, _ in VAL])
    assert run(data, *together, "--split", "test") == 0
    tested = written(data)["ensemble"]["abstain"]
    assert (tested["chosen_on"], tested["abstain_below"]) == ("validation", chosen["abstain_below"])


def test_damages_baselines_and_pictures_are_recorded_in_the_bundle(
    twin: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = bundles.weights_hash(bundles.load(twin))
    assert run(data, twin, "--shortcuts", "--baselines", "--contact-sheet", "--record") == 0
    report = written(data)
    rows = {row["damage"]: row for row in report["shortcuts"]["twin"]["rows"]}
    assert {row["num_clips"] for row in rows.values()} == {3}
    assert {"h264_crf45", "flip", "gif_64", "fps_10", "letterbox_20"} <= set(rows)
    assert report["baselines"]["rows"][0]["baseline"] == "majority class"
    assert report["baselines"]["num_train"] == 4
    recorded = bundles.load(twin)
    assert recorded.metrics["evaluation"]["val"]["shortcuts"] == report["shortcuts"]
    assert bundles.weights_hash(recorded) == weights
    assert "## Evaluation on val" in (twin / "README.md").read_text(encoding="utf-8")
    assert (twin / "plots" / "val_shortcuts.png").is_file()
    assert "shortcuts of twin" in capsys.readouterr().out
    if report["members"]["twin"]["wrong"]:
        assert (data.parent / "report" / "wrong_not_for_publication.png").is_file()

    write_manifest(data / "clips", [(path, name, work, "test") for path, name, work, _ in VAL])
    assert run(data, twin, "--split", "test") == 0
    abstain = written(data)["members"]["twin"]["abstain"]
    assert abstain["chosen_on"] == "validation"
    assert abstain["abstain_below"] == recorded.metrics["abstain"]["abstain_below"]


def test_a_folder_with_its_own_manifest_needs_no_sources(served_bundle: Bundle, data: Path) -> None:
    shutil.copytree(data / "clips", data.parent / "alone")
    assert run(data.parent / "alone", served_bundle.path()) == 0
    assert written(data)["members"][served_bundle.name]["num_clips"] == 3


@pytest.mark.parametrize(
    ("change", "arguments", "complaint"),
    [
        (lambda data: (data / "clips" / "manifest.csv").unlink(), [], "no labels in"),
        (lambda data: shutil.rmtree(data), [], "no folder"),
        (lambda data: write_manifest(data / "clips", TRAIN), [], r"no val samples in .*there: train"),
        (lambda data: [(data / "clips" / row[0]).unlink() for row in VAL], [], "could read none of 3 files"),
        (
            lambda data: (data.parent / "report").mkdir() or (data.parent / "report" / "a").touch(),
            [],
            "holds no report",
        ),
        (lambda data: None, ["--sources", "nowhere"], "nowhere"),
    ],
    ids=["no manifest", "no folder", "no val", "nothing readable", "someone's folder", "unknown source"],
)
def test_what_cannot_be_measured_is_said_in_a_sentence(
    served_bundle: Bundle, data: Path, change: object, arguments: list[str], complaint: str
) -> None:
    assert callable(change)
    change(data)
    with pytest.raises(ReelkindError, match=complaint):
        run(data, served_bundle.path(), *arguments)


def test_two_bundles_of_one_name_are_refused(served_bundle: Bundle, data: Path) -> None:
    with pytest.raises(ReelkindError, match="different names"):
        run(data, served_bundle.path(), served_bundle.path())


def test_held_out_predictions_are_compared_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for name, strength in (("one", 3.0), ("two", 1.0)):
        bundle = write_untrained_bundle(name, "mobilenet_v2", tmp_path / name)
        labels = np.arange(40) % 4
        logits = np.random.default_rng(0).normal(size=(40, 4)) + strength * np.eye(4)[labels]
        works = [f"work {i // 2}" for i in range(40)]
        names = [f"clips/{i}.mp4" for i in range(40)]
        predictions.save(Predictions(name, names, logits, labels, works, [""] * 40), bundle.path(HELD_OUT_NAME))
        folders.append(str(bundle.path()))
    out = tmp_path / "report"
    assert main(["evaluate", *folders, "--split", "held-out", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["members"]["one"]["num_clips"] == 40
    assert report["members"]["one"]["accuracy"] > report["members"]["two"]["accuracy"]
    assert report["ensemble"]["fitted_weights"]["weights"]["one"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split", "held-out", "--data", "x"], "reads no files"),
        (["--split", "val"], "needs --data"),
    ],
)
def test_contradicting_options_are_wrong_usage(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "bundles/lite", "--out", str(tmp_path / "r"), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_bundle_measured_on_its_training_files_is_told(
    twin: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = read_samples(data, ["clips"])[:3]
    write_seen(twin, [first, third])
    assert run(data, twin) == 0
    assert "twin was trained on 2 of these 3 files" in capsys.readouterr().err
    report = json.loads((data.parent / "report/report.json").read_text())
    assert report["warnings"] == ["twin was trained on 2 of these 3 files: it looks too good"]
    assert "2 of these 3 files" in (data.parent / "report/README.md").read_text()
    write_seen(twin, [replace(second, path=second.path.with_name("other.mp4"), sha256="0" * 64)])
    assert run(data, twin) == 0
    assert "was trained on" not in capsys.readouterr().err
