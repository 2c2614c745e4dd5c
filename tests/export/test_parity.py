"""The ladder: it passes on what was exported, and fails on what differs."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from videos import write_video

from reelkind.cli.export import command as command
from reelkind.core.bundle import Bundle
from reelkind.core.specs import Tolerance
from reelkind.export.errors import ExportError, ParityError
from reelkind.export.parity.ladder import Rung, climb, table
from reelkind.export.parity.triton_rung import TritonPipeline
from reelkind.export.pipelines.clips import synthetic_clips, video_clips
from reelkind.export.pipelines.reference import OnnxPipeline
from reelkind.export.pipelines.steps import Tensors
from reelkind.export.pipelines.torch_pipeline import TorchPipeline

SIZE_PX = 224


@pytest.mark.parametrize(("views", "num_frames"), [("single", (1, 7, 16, 32)), ("tta", (7,))])
def test_exported_graphs_answer_as_pytorch_does(lite: Bundle, views: str, num_frames: tuple[int, ...]) -> None:
    clips = [next(synthetic_clips(SIZE_PX, (count,), seed=count)) for count in num_frames]
    clips += [list(synthetic_clips(SIZE_PX, (3,)))[2]]
    rungs = [Rung("ONNX Runtime", OnnxPipeline(lite.path(), views=views))]
    (report,) = climb(TorchPipeline([lite], views=views), rungs, clips)
    assert report.passed, table([report], "PyTorch")
    assert report.num_clips == len(clips)
    assert report.max_abs <= 1e-4
    assert report.top1_agreement == 1.0


def test_a_batch_gets_the_answers_of_its_clips(lite: Bundle) -> None:
    pipeline = OnnxPipeline(lite.path(), num_threads=1)
    clips = [clip.frames for clip in synthetic_clips(SIZE_PX, (2,))]
    together = pipeline(np.stack(clips))["probabilities"]
    alone = np.concatenate([pipeline(clip[None])["probabilities"] for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def answer(*probabilities: float) -> Tensors:
    return {"probabilities": np.array([probabilities], np.float32), "attention": np.ones((1, 1), np.float32)}


@pytest.mark.parametrize(
    ("given", "difference", "agreement"),
    [
        (answer(0.6, 0.4), 0.1, 1.0),
        (answer(0.4, 0.6), 0.3, 0.0),
        (answer(float("nan"), 0.5), float("inf"), 1.0),
    ],
    ids=["drift", "label", "nan"],
)
def test_a_rung_that_differs_fails_and_says_where(given: Tensors, difference: float, agreement: float) -> None:
    rung = Rung("engine", lambda frames: given, Tolerance(max_abs=1e-3, top1_agreement=1.0))
    clips = list(synthetic_clips(8, (1,)))[:1]
    (report,) = climb(lambda frames: answer(0.7, 0.3), [rung], clips)
    assert not report.passed
    assert report.max_abs == pytest.approx(difference)
    assert report.top1_agreement == agreement
    assert "FAIL on synthetic:noise at T=1" in table([report], "PyTorch")


def test_drift_within_tolerance_passes_unless_the_label_flips() -> None:
    rung = Rung("engine", lambda frames: answer(0.499, 0.501), Tolerance(max_abs=0.01, top1_agreement=1.0))
    (report,) = climb(lambda frames: answer(0.501, 0.499), [rung], list(synthetic_clips(8, (1,)))[:1])
    assert report.max_abs < 0.01
    assert not report.passed


def test_no_clips_prove_nothing() -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        climb(lambda frames: {}, [Rung("any", lambda frames: {})], [])


def test_pytorch_rung_refuses_frames_it_would_have_to_scale(lite: Bundle) -> None:
    with pytest.raises(ExportError, match="takes 224x224 frames"):
        TorchPipeline([lite])(np.zeros((1, 1, 32, 32, 3), np.uint8))


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no video in"):
        next(video_clips([tmp_path], SIZE_PX))


def test_videos_of_a_folder_are_those_that_are_classified(tmp_path: Path) -> None:
    write_video(tmp_path / "a.FLV", 5, codec="flv1")
    (tmp_path / "notes.txt").write_text("no video")
    assert [clip.name for clip in video_clips([tmp_path], SIZE_PX, (1,))] == ["a.FLV"]


def test_a_server_that_is_not_there_is_named(lite: Bundle) -> None:
    with pytest.raises(ParityError, match=r"cannot ask 127.0.0.1:1 about model 'classify'"):
        TritonPipeline("127.0.0.1:1", "classify", [lite])


def test_the_command_writes_table_and_report(
    lite: Bundle, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    out = tmp_path / "parity.json"
    clip = str(root / "samples" / "flat_slides.mp4")
    args = parser.parse_args(
        ["export", "parity", "--bundle", str(lite.path()), "--clips", clip, "--frames", "1,2", "--json", str(out)]
    )
    assert args.run(args) == 0
    printed = capsys.readouterr()
    assert "ONNX FP32" in printed.out
    assert "pass" in printed.out
    report = json.loads(out.read_text())
    assert report["passed"]
    assert report["num_frames"] == [1, 2]
    assert report["rungs"][0]["num_clips"] == 2
    assert report["rungs"][0]["worst_clip"] == "flat_slides.mp4"
