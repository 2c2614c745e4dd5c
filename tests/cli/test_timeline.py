"""`reelkind timeline` and `reelkind features` against the stand-in server, whose classes are colours."""

import csv
import io
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from standin import StandinServer
from videos import write_video

from reelkind.cli.main import main
from reelkind.cli.options import arguments as _arguments
from reelkind.cli.options import connecting
from reelkind.client import InlineDecoder
from reelkind.core.files import features_files as files
from reelkind.core.timing import segments
from reelkind.core.timing.timeline import RATE, WINDOW_S
from reelkind.video.clip import MAX_RATE, MIN_RATE

COLOURS = {"animation": (255, 0, 0), "gaming": (0, 255, 0), "natural": (0, 0, 255)}
FPS = 5


def write_colours(path: Path, parts: Sequence[tuple[str, int]], **options) -> Path:
    shown = [COLOURS[label] for label, duration_s in parts for _ in range(duration_s * FPS)]

    def picture(index: int, width_px: int, height_px: int) -> np.ndarray:
        return np.broadcast_to(np.array(shown[index], np.uint8), (height_px, width_px, 3)).copy()

    return write_video(path, len(shown), fps=FPS, size_px=(64, 64), picture=picture, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_colours(folder / "film.mp4", [("animation", 12), ("natural", 8)])


@pytest.fixture(scope="module")
def cut_off(folder: Path) -> Path:
    whole = write_colours(
        folder / "cut.mp4",
        [("gaming", 40)],
        container_options={"movflags": "faststart"},
        codec_options={"crf": "0"},
        keyframes=range(200),
    )
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return whole


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch, standin: StandinServer) -> None:
    """Decode in this process: starting others takes a second a test."""
    monkeypatch.setattr(connecting, "decoder", lambda args, stack: InlineDecoder())
    monkeypatch.setenv("REELKIND_URL", standin.url)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_the_table_has_a_strip_and_a_line_a_segment(video: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("timeline", "--rate", 2, video) == 0
    captured = capsys.readouterr()
    verdict, strip, first, second, blank = captured.out.splitlines()
    assert verdict == f"{video}  0:00:20.0  animation  MIXED  (animation 60%, natural 40%)"
    assert strip.strip().count("█") == pytest.approx(0.6 * len(strip.strip()), abs=1)
    assert set(strip.strip()) == {"█", "▒"}
    assert first.startswith("  0:00:00.0 .. 0:00:12.0  █ animation")
    assert second.startswith("  0:00:12.0 .. 0:00:20.0  ▒ natural")
    assert (blank, captured.err) == ("", "")


def test_how_easily_segments_change_can_be_said(folder: Path, capsys: pytest.CaptureFixture) -> None:
    path = write_colours(folder / "moment.mp4", [("animation", 6), ("gaming", 2), ("animation", 6)])
    for penalty, num_segments in ((0, 3), (100, 1)):
        assert run("timeline", "--window", 2, "--switch-penalty", penalty, "--jsonl", path) == 0
        assert len(capsys.readouterr().out.splitlines()) == num_segments + 1
    with pytest.raises(SystemExit):
        run("timeline", "--switch-penalty", "-1", path)
    assert "--switch-penalty: must be a number, at least 0, got -1" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["timeline"], ["features", "extract", "--out", "out"]])
def test_an_empty_list_on_stdin_is_said(
    command: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    monkeypatch.setenv("REELKIND_URL", "127.0.0.1:1")  # no server is asked
    assert run(*command, "-") == 0
    assert capsys.readouterr().err == "reelkind: no paths on standard input\n"


def test_a_folder_is_no_place_for_a_plot(tmp_path: Path, video: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(SystemExit):
        run("timeline", "--plot", tmp_path / "a.svg", video)
    assert f"--plot: is a folder: {tmp_path / 'a.svg'}" in capsys.readouterr().err


def test_numbers_that_help_tells_are_those_in_use() -> None:
    assert _arguments.SWITCH_PENALTY == segments.SWITCH_PENALTY
    assert (_arguments.RATE, _arguments.WINDOW_S) == (RATE, WINDOW_S)
    assert (_arguments.MIN_FRAMES_PER_SECOND, _arguments.MAX_FRAMES_PER_SECOND) == (MIN_RATE, MAX_RATE)


def test_json_lines_come_as_segments_are_final(video: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("timeline", "--rate", 2, "--jsonl", video) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["segment", "segment", "timeline"]
    assert all(line["path"] == str(video) for line in lines)
    assert (lines[0]["start_ms"], lines[0]["end_ms"], lines[0]["label"]) == (0, 12000, "animation")
    timeline = lines[2]
    assert [segment["label"] for segment in timeline["segments"]] == ["animation", "natural"]
    assert (timeline["label"], timeline["mixed"], timeline["error"]) == ("animation", True, None)
    assert timeline["shares"]["natural"] == pytest.approx(0.4)


def test_windows_and_their_embeddings_are_told_on_request(video: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("timeline", "--rate", 2, "--jsonl", "--windows", video) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    windows = [line for line in lines if line["event"] == "window"]
    assert [window["start_ms"] for window in windows] == list(range(0, 18001, 1000))
    assert "embedding" not in windows[0]
    assert lines.index(windows[-1]) > 0
    assert run("timeline", "--jsonl", "--embeddings", video) == 0
    window = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (window["event"], window["embedding"]) == ("window", [1.0] * 6)


def test_csv_has_a_row_a_segment_and_one_a_video(video: Path, cut_off: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("timeline", "--rate", 2, "--csv", video, cut_off, "nope,.mp4") == 1
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["event"], row["label"]) for row in rows] == [
        ("segment", "animation"),
        ("segment", "natural"),
        ("timeline", "animation"),
        ("segment", "gaming"),
        ("timeline", "gaming"),
        ("failure", ""),
    ]
    assert [(row["start_ms"], row["end_ms"]) for row in rows[:3]] == [
        ("0", "12000"),
        ("12000", "20000"),
        ("0", "20000"),
    ]
    assert [(row["mixed"], row["members"]) for row in rows[1:3]] == [("", ""), ("true", "lite")]
    assert (rows[4]["mixed"], "cut off" in rows[4]["error"]) == ("false", True)
    assert (rows[5]["path"], rows[5]["error"]) == ("nope,.mp4", "no such file")


def test_segments_have_their_subcategory(standin: StandinServer, video: Path, capsys: pytest.CaptureFixture) -> None:
    standin.subcategories_learnt = ("anime_mecha", "moba")
    assert run("timeline", "--rate", 2, "--jsonl", video) == 0
    first, second, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["label"], first["subcategory"]) == ("animation", "anime_mecha")
    assert 0 < first["subcategory_confidence"] < first["confidence"]
    assert (second["label"], second["subcategory"], second["subcategory_confidence"]) == ("natural", None, None)
    assert run("timeline", "--rate", 2, "--csv", video) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["subcategory"] for row in rows] == ["anime_mecha", "", ""]
    assert run("timeline", "--rate", 2, video) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("anime_mecha") for line in lines if " .. " in line] == [True, False]


def test_one_that_fails_does_not_end_the_others(
    video: Path, cut_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "two\nlines.mp4").write_text("no video")
    assert run("timeline", "--rate", 2, tmp_path / "two\nlines.mp4", cut_off, tmp_path / "none", video) == 1
    captured = capsys.readouterr()
    assert r"two\nlines.mp4  -  not a readable video" in captured.out
    assert "cut off: pictures end after" in captured.out
    assert "none  -  no such file" in captured.out
    assert "natural" in captured.out
    assert captured.err == "reelkind: 3 of 4 without a whole timeline\n"


def test_an_untrained_model_is_labelled(standin: StandinServer, video: Path, capsys: pytest.CaptureFixture) -> None:
    standin.parameters["untrained"] = "lite"
    assert run("timeline", video) == 0
    captured = capsys.readouterr()
    assert "(untrained)" in captured.out
    assert captured.err == "reelkind: of random weights, UNTRAINED: lite; labels mean nothing\n"
    assert run("timeline", "--jsonl", video) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["model"]["untrained"] == ["lite"]
    assert run("timeline", "--csv", video) == 0
    captured = capsys.readouterr()
    assert list(csv.DictReader(io.StringIO(captured.out)))[-1]["untrained"] == "lite"
    assert "UNTRAINED: lite" in captured.err


def test_the_warning_comes_before_the_first_result(
    standin: StandinServer, video: Path, capsys: pytest.CaptureFixture
) -> None:
    standin.parameters["untrained"] = "lite"
    assert run("timeline", video.parent / "none.mp4", video) == 1
    captured = capsys.readouterr()
    assert "no such file" in captured.out
    assert "UNTRAINED: lite" in captured.err


def test_the_plot_has_a_rectangle_a_segment(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    plot = tmp_path / "plot.svg"
    odd = tmp_path / "a<&>.mp4"
    odd.write_bytes(video.read_bytes())
    assert run("timeline", "--rate", 2, "--plot", plot, video, odd) == 0
    root = ET.fromstring(plot.read_text())
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 4
    assert str(titles[0]).startswith("0:00:00.0 .. 0:00:12.0 animation ")
    assert str(titles[1]).startswith("0:00:12.0 .. 0:00:20.0 natural ")
    assert str(odd) in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("arguments", [["--plot", "film.mp4"], ["--plot", "no/such/a.svg"], ["--rate", "0"]], ids=str)
def test_wrong_usage_is_said_before_work_begins(
    arguments: list[str], video: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run("timeline", *arguments, video)
    assert exit_.value.code == 2


def test_features_are_extracted_once_and_classified_without_the_video(
    standin: StandinServer, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "features"
    assert run("features", "extract", video, "--out", out) == 0
    path = out / f"film.mp4{files.SUFFIX}"
    assert capsys.readouterr().out == f"{path}\n"
    before = path.stat().st_mtime_ns
    standin.asked.clear()
    assert run("features", "extract", video, "--out", out) == 0
    assert capsys.readouterr().out == f"{path}\n", "a list to go on with, whether made now or before"
    assert (standin.asked, path.stat().st_mtime_ns) == ([], before)
    assert run("classify", "--jsonl", path, video) == 0
    from_features, from_video = map(json.loads, capsys.readouterr().out.splitlines())
    assert from_features["scores"] == from_video["scores"]
    assert from_features["path"] == str(path)
    assert standin.asked.count("classify_features") == 1


def test_stream_features_have_a_timeline(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("features", "extract", video, "--rate", 2, "--out", tmp_path) == 0
    path = capsys.readouterr().out.strip()
    assert run("timeline", "--csv", path) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    segments = [(row["label"], row["end_ms"]) for row in rows if row["event"] == "segment"]
    assert segments == [("animation", "12000"), ("natural", "20000")]
    assert run("classify", path) == 1
    assert "features of a stream" in capsys.readouterr().out


def test_features_made_from_something_else_are_never_overwritten_silently(
    standin: StandinServer, video: Path, cut_off: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("features", "extract", video, "--out", tmp_path) == 0
    path = tmp_path / f"film.mp4{files.SUFFIX}"
    before = path.read_bytes()
    other = tmp_path / "film.mp4"
    other.write_bytes(b"another")
    capsys.readouterr()
    assert run("features", "extract", other, "--out", tmp_path) == 1
    assert "made from another video called film.mp4: name another folder, or --overwrite" in capsys.readouterr().err
    assert run("features", "extract", video, "--rate", 2, "--out", tmp_path) == 1
    assert "made from this video in another way" in capsys.readouterr().err
    standin.parameters["weights"] = "1" * 64
    assert run("features", "extract", video, "--out", tmp_path) == 1
    assert path.read_bytes() == before
    assert run("features", "extract", video, "--out", tmp_path, "--overwrite") == 0
    assert path.read_bytes() != before


def test_a_pipe_in_the_place_of_a_known_video_is_not_waited_for(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "film.mp4"
    shutil.copy(video, path)
    assert run("features", "extract", path, "--out", tmp_path / "out") == 0
    path.unlink()
    os.mkfifo(path)
    assert run("features", "extract", path, "--out", tmp_path / "out") == 1
    assert "is a pipe, socket or device: save the video to a file first" in capsys.readouterr().err


def test_failures_are_told_one_by_one_and_the_others_go_on(
    video: Path, cut_off: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    twin = tmp_path / "film.mp4"
    twin.write_bytes(cut_off.read_bytes())
    out = tmp_path / "out"
    assert run("features", "extract", "nope.mp4", cut_off, video, video, twin, tmp_path / "empty", "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{out / f'film.mp4{files.SUFFIX}'}\n"
    said = captured.err.splitlines()
    assert said[0] == "reelkind: nope.mp4: no such file"
    assert "cut.mp4: cut off" in said[1]
    assert said[2] == f"reelkind: {twin}: {video} has the same name: extract one into another folder"
    assert said[-1] == "reelkind: 4 of 5 without features"


def test_features_of_a_folder_are_laid_out_like_it_and_classified_as_a_folder(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    for name in ("a/film.mp4", "b/film.mp4", "film.mp4"):
        (films / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(video, films / name)
    expected = [str(out / name) + files.SUFFIX for name in ("film.mp4", "a/film.mp4", "b/film.mp4")]
    for argument in (films, f"{films}/"):
        assert run("features", "extract", argument, "--out", out) == 0
        assert capsys.readouterr().out.splitlines() == expected
    assert run("classify", out, "--jsonl") == 0
    assert [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()] == expected
    (films / "b" / "film.mp4").unlink()
    shutil.copytree(out, films, dirs_exist_ok=True)
    assert run("classify", films, "--jsonl") == 0
    told = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    beside = [films / "film.mp4", films / "a/film.mp4", films / f"b/film.mp4{files.SUFFIX}"]
    assert told == list(map(str, beside)), "features beside their video are not another one"
    assert run("features", "extract", out, "--out", tmp_path / "more") == 1, "of features there are no features"
    assert f"{out}: no videos in this folder" in capsys.readouterr().err


def test_the_command_keeps_features_on_request(
    standin: StandinServer, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert run("classify", "--jsonl", video) == 0
    assert not list(tmp_path.iterdir()), "nothing is kept unless asked for"
    for from_cache in (False, True):
        assert run("classify", "--jsonl", video, "--cache") == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["from_cache"] is from_cache
    assert run("classify", video, "--cache") == 0
    *_, line, warning = capsys.readouterr().out.splitlines()
    assert line.endswith("from cache")
    assert warning.split()[:2] == ["frames", "disagree"]
    assert run("features", "cache") == 0
    assert ": 1 entries, 0.0 MB of 1074 MB" in capsys.readouterr().out
    assert run("features", "cache", "--clear") == 0
    captured = capsys.readouterr()
    assert captured.err == "reelkind: removed 1 entries\n"
    assert ": 0 entries" in captured.out


def test_the_cache_may_be_any_folder(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("classify", "--cache-dir", tmp_path / "mine", video) == 0
    assert len(list((tmp_path / "mine").glob("*/*.safetensors"))) == 1


def test_timelines_and_lists_of_features_go_to_a_file(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("timeline", "--jsonl", video, "-o", tmp_path / "told.jsonl") == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert (events[0], events[-1]) == ("segment", "timeline")
    assert run("features", "extract", video, "--out", tmp_path / "out", "--output", tmp_path / "list") == 0
    assert (tmp_path / "list").read_text() == f"{tmp_path / 'out' / 'film.mp4'}{files.SUFFIX}\n"
    assert capsys.readouterr().out == ""


def test_nobody_is_asked_about_files_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelkind.deployment.opening.find_or_start", None)
    assert run("timeline", "nope.mp4") == 1
    assert run("features", "extract", "nope.mp4", "--out", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.out == "nope.mp4  -  no such file\n"
    assert captured.err == "reelkind: nope.mp4: no such file\n"
