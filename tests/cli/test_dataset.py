"""`reelkind dataset` from a folder of made-up videos to samples that training reads."""

import argparse
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import write_video

from reelkind.cli.dataset import command as dataset
from reelkind.core.errors import ReelkindError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.datasets.samples import read_samples, split_samples

WORKS = 4


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser(prog="reelkind")
    dataset.add_parser(parser.add_subparsers())
    args = parser.parse_args(["dataset", *map(str, arguments)])
    status: int = args.run(args)
    return status


def scene(seed: int) -> Callable[[int, int, int], np.ndarray]:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 9, 3), dtype=np.uint8)

    def picture(index: int, width_px: int, height_px: int) -> np.ndarray:
        wide = Image.fromarray(coarse).resize((2 * width_px, height_px), Image.Resampling.BICUBIC)
        return np.asarray(wide)[:, index : index + width_px]

    return picture


def video(path: Path, seed: int, num_frames: int = 30, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, num_frames, **{"size_px": (96, 64), "picture": scene(seed), **options})


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of four works with two videos each, sound and all different; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("tree") / "data"
    for number, class_name in enumerate(CLASSES):
        for work in range(WORKS):
            for i in range(2):
                video(folder / class_name / f"some work {work}" / f"{i}.mp4", seed=100 * number + 10 * work + i)
    return folder


@pytest.fixture
def data(tree: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tree, tmp_path / "däta"))


@pytest.fixture
def check(data: Path, tmp_path: Path) -> Callable[..., int]:
    return lambda *options: run("check", data, "--no-labels", "--jobs", "1", "--cache", tmp_path / "c.sqlite", *options)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_becomes_checked_split_samples(
    data: Path, check: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    kept = data / "gaming/some work 0"
    shutil.copy(kept / "0.mp4", kept / "copy.mp4")
    (kept / "broken.mp4").write_bytes((kept / "0.mp4").read_bytes()[:300])
    video(data / "gaming/some work 0/blink.mp4", seed=999, num_frames=5)
    video(data / "flat/another name/0.mp4", seed=100, size_px=(64, 48))  # what gaming/some work 0/0.mp4 shows
    (data / "sport").mkdir()

    assert run("manifest", data) == 0
    captured = capsys.readouterr()
    assert "36 rows, 36 of them new" in captured.out
    assert "sport/ is no class" in captured.err

    assert check("--json") == 0
    found = {(Path(f["path"]).name, f["reason"], f["exclude"]) for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found == {
        ("copy.mp4", "duplicate", True),
        ("broken.mp4", "unreadable", True),
        ("blink.mp4", "too_short", True),
        ("0.mp4", "near_duplicate", False),
    }
    with Image.open(data / "suspicious.jpg") as sheet:
        assert sheet.height > 0

    assert run("split", data, "--shares", "50/25/25") == 0
    assert "all" in capsys.readouterr().out
    samples = read_samples(data, ["."])
    assert len(samples) == 33
    split_of = {sample.path.relative_to(data).as_posix(): sample.split for sample in samples}
    assert split_of["flat/another name/0.mp4"] == split_of["gaming/some work 0/0.mp4"]
    assert set(split_of.values()) == {"train", "val", "test"}
    train, val = split_samples(samples)
    assert {sample.split for sample in train} == {"train"}
    assert {sample.split for sample in val} == {"val"}
    assert all(len(sample.sha256) == 64 for sample in samples)

    assert check() == 0
    assert "leak" not in capsys.readouterr().out


def test_a_leak_is_excluded_from_training_and_a_person_may_disagree(data: Path, check: Callable[..., int]) -> None:
    run("manifest", data)
    manifest = data / "manifest.csv"
    text = manifest.read_text(encoding="utf-8")
    text = text.replace("natural/some work 0/0.mp4,natural,,some work 0,,", "natural/some work 0/0.mp4,natural,,x,val,")
    manifest.write_text(text.replace("some work", "this work"), encoding="utf-8")
    (data / "natural/some work 0").rename(data / "natural/this work 0")
    for folder in [*data.glob("*/some work *")]:
        folder.rename(folder.with_name(folder.name.replace("some", "this")))
    video(data / "natural/this work 1/copy.mp4", seed=200, size_px=(64, 44), codec_options={"crf": "38"})
    run("manifest", data)
    assert check("--strict") == 1
    (leak,) = rows(data / "exclusions.csv")
    assert (leak["path"], leak["reason"], leak["exclude"]) == ("natural/this work 1/copy.mp4", "leak", "yes")
    assert leak["other"] == "natural/this work 0/0.mp4"
    assert len(read_samples(data, ["."])) == 32
    path = data / "exclusions.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",yes", ",no"), encoding="utf-8")
    assert check("--strict") == 0
    assert len(read_samples(data, ["."])) == 33


def test_out_leaves_the_data_folder_as_it_is(data: Path, check: Callable[..., int], tmp_path: Path) -> None:
    run("manifest", data)
    (data / "flat/some work 1/0.mp4").unlink()
    before = sorted(path.name for path in data.iterdir())
    assert check("--out", str(tmp_path / "out")) == 0
    assert sorted(path.name for path in data.iterdir()) == before
    (row,) = rows(tmp_path / "out/exclusions.csv")
    assert (row["path"], row["reason"]) == ("flat/some work 1/0.mp4", "missing")


def test_a_changed_file_does_not_fit_its_hash(data: Path, check: Callable[..., int]) -> None:
    run("manifest", data)
    video(data / "flat/some work 1/0.mp4", seed=77)
    check()
    (row,) = rows(data / "exclusions.csv")
    assert (row["path"], row["reason"]) == ("flat/some work 1/0.mp4", "hash_mismatch")


def test_a_wrong_label_is_shown_by_the_shipped_backbone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("onnxruntime", reason="the backbone's graph needs onnxruntime")
    for path in data.glob("*/*/*.mp4"):  # two kinds of pictures, and one file of the wrong kind
        path.unlink()
    for work in range(6):
        Image.new("RGB", (64, 64), (0, 20 * work, 250)).save(data / "natural" / f"n{work}.png")
        page = np.full((64, 64, 3), 255, np.uint8)
        page[8 * work + 4 :: 6, 8:40] = 0
        Image.fromarray(page).save(data / "flat" / f"f{work}.png")
    Image.new("RGB", (64, 64), (0, 50, 240)).save(data / "flat" / "odd.png")
    run("manifest", data, "--work-pattern", r"(\w+)\.png")
    capsys.readouterr()
    assert run("check", data, "--json", "--jobs", "1", "--cache", tmp_path / "c") == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    wrong = {(Path(f["path"]).name, f["other"], f["exclude"]) for f in found if f["reason"] == "mislabelled"}
    assert ("odd.png", "natural", False) in wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["manifest", "nope"], "no folder nope"),
        (["check", "nope"], "no manifest.csv in nope"),
        (["split", "nope"], "no manifest.csv in nope"),
    ],
    ids=["manifest", "check", "split"],
)
def test_what_is_missing_is_a_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(ReelkindError, match=message):
        run(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["manifest", "x", "--work-pattern", "("],
        ["manifest", "x", "--work-pattern", "abc"],
        ["check", "x", "--min-duration-s", "-1"],
        ["check", "x", "--jobs", "0"],
        ["split", "x", "--shares", "70/20"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*arguments)
    assert "usage:" in capsys.readouterr().err
