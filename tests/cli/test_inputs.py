"""What is handed over is answered, or what became of it is said: URLs, pictures, links, what else folders hold."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from file_servers import FileServer, s3_bucket
from PIL import Image
from standin import StandinServer
from videos import bars, write_video

from reelkind.cli.main import main
from reelkind.cli.options import connecting
from reelkind.client import InlineDecoder
from reelkind.core.files import features_files
from reelkind.video import fetching

pytestmark = pytest.mark.usefixtures("inline")


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: starting others takes a second a test."""
    monkeypatch.setattr(connecting, "decoder", lambda args, stack: InlineDecoder())


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


@pytest.fixture
def files(video: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileServer]:
    """A file server; whatever is fetched from it is gone at the end."""
    pytest.importorskip("aiohttp", reason="the extra urls is not installed")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    server = FileServer({"a.mp4": video.read_bytes(), "bad.mp4": b"no video"})
    yield server
    server.close()
    assert list((tmp_path / "temporary").iterdir()) == []


def answers(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_urls_are_answered_under_their_names_and_failing_ones_hurt_nobody(
    standin: StandinServer, files: FileServer, video: Path, capsys: pytest.CaptureFixture
) -> None:
    good, gone, damaged = (f"{files.url}/{end}" for end in ("200/a.mp4?key=1", "404/a.mp4", "200/bad.mp4"))
    assert main(["classify", "--url", standin.url, "--jsonl", gone, str(video), damaged, good, video.as_uri()]) == 1
    captured = capsys.readouterr()
    found = answers(captured.out)
    assert [each["path"] for each in found] == [gone, str(video), damaged, good, video.as_uri()]
    assert [each["error"] and each["error"].partition(":")[0] for each in found] == [
        *("no such file", None, "not a readable video", None, None)
    ]
    assert found[3]["scores"] == found[1]["scores"] == found[4]["scores"]
    said = captured.err.splitlines()
    assert sorted(said[:-1]) == sorted(f"reelkind: fetching {url}" for url in (good, gone, damaged))
    assert said[-1] == "reelkind: 2 of 5 without an answer"


def test_the_cache_knows_what_a_url_gave_before(
    standin: StandinServer, files: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["classify", "--url", standin.url, "--jsonl", "--cache-dir", str(tmp_path), f"{files.url}/200/a.mp4"]
    assert [main(command), main(command)] == [0, 0]
    first, second = answers(capsys.readouterr().out)
    assert (first["from_cache"], second["from_cache"]) == (False, True)
    assert first["scores"] == pytest.approx(second["scores"], abs=1e-6)


def test_what_fetching_may_cost_is_limited(
    standin: StandinServer, files: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    large = FileServer({"a.mp4": bytes(2_000_000)})
    limits = ["--fetch-limit", "1", "--fetch-timeout", "0.5"]
    urls = [f"{large.url}/200/a.mp4", f"{files.url}/slow/a.mp4"]
    assert main(["classify", "--url", standin.url, "--jsonl", *limits, *urls]) == 1
    assert [each["error"] for each in answers(capsys.readouterr().out)] == [
        "larger than the 1 MB that are fetched",
        "not fetched within 0.5 s",
    ]
    large.close()


def test_timelines_and_features_start_from_urls(
    standin: StandinServer, files: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    url = f"{files.url}/200/a.mp4"
    assert main(["timeline", "--url", standin.url, "--jsonl", url]) == 0
    assert {each["path"] for each in answers(capsys.readouterr().out)} == {url}
    assert main(["features", "extract", "--url", standin.url, "--out", str(tmp_path), url]) == 0
    target = tmp_path / "a.mp4.features.safetensors"
    assert capsys.readouterr().out == f"{target}\n"
    assert features_files.load(target).source.name == "a.mp4"
    assert main(["features", "extract", "--url", standin.url, "--out", str(tmp_path), f"{files.url}/404/b.mp4"]) == 1
    assert f"{files.url}/404/b.mp4: no such file" in capsys.readouterr().err


def test_s3_is_read(
    standin: StandinServer, video: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fetching._s3.cache_clear()
    with s3_bucket({"a.mp4": video.read_bytes()}, monkeypatch) as bucket:
        status = main(["classify", "--url", standin.url, "--jsonl", f"{bucket}/a.mp4", f"{bucket}/b.mp4"])
    fetching._s3.cache_clear()
    found = answers(capsys.readouterr().out)
    assert status == 1
    assert [each["error"] for each in found] == [None, "no such file"]


def test_urls_that_are_never_fetched_start_no_server(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "find_spec", lambda name: None)
    assert main(["classify", "--jsonl", "http://host/a.mp4", "s3://bucket/a.mp4", "ftp://host/a.mp4"]) == 1
    captured = capsys.readouterr()
    http, s3, ftp = (each["error"] for each in answers(captured.out))
    assert "pip install 'reelkind[urls]'" in http
    assert "pip install 'reelkind[s3]'" in s3
    assert "ftp:// is not read" in ftp
    assert captured.err == "reelkind: 3 of 3 without an answer\n"


def test_interrupting_leaves_nothing_behind(standin: StandinServer, video: Path, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="the extra urls is not installed")
    files = FileServer({"a.mp4": video.read_bytes()})
    command = [sys.executable, "-m", "reelkind.cli.main", "classify", "--url", standin.url, f"{files.url}/slow/a.mp4"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, as in the background, it is inherited
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("reelkind-*/a.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    files.close()
    assert (process.returncode, said.splitlines()[1:]) == (130, ["reelkind: interrupted"])
    assert time.monotonic() - started < 20
    assert list(tmp_path.glob("reelkind-*")) == []


@pytest.fixture
def folder(video: Path, tmp_path: Path) -> Path:
    """Two videos, one behind a link; two pictures, notes, a folder behind a link, a link to nothing."""
    folder = tmp_path / "films"
    folder.mkdir()
    shutil.copy(video, folder / "a.mp4")
    (folder / "b.mp4").symlink_to(video)
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    for name in ("cover.JPG", "still.png"):
        Image.fromarray(bars(5, 160, 96)).save(folder / name)
    (folder / "notes.txt").write_text("x")
    (tmp_path / "others").mkdir()
    shutil.copy(video, tmp_path / "others" / "c.mp4")
    (folder / "more").symlink_to(tmp_path / "others", target_is_directory=True)
    return folder


def test_what_a_folder_holds_besides_is_said_in_a_sentence(
    standin: StandinServer, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["classify", "--url", standin.url, "--jsonl", str(folder)]) == 1
    captured = capsys.readouterr()
    found = answers(captured.out)
    assert [Path(each["path"]).name for each in found] == ["a.mp4", "b.mp4", "gone.mp4"]
    assert [each["error"] for each in found] == [None, None, "is a link to nowhere.mp4, which is not there"]
    assert captured.err.splitlines()[-1] == (
        "reelkind: passed over in folders: 2 pictures (--pictures takes them), 1 other file, "
        f"1 linked folder (name what you want: {folder / 'more'})"
    )


def test_pictures_are_taken_if_asked_for_and_linked_folders_if_named(
    standin: StandinServer, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "gone.mp4").unlink()
    (folder / "notes.txt").unlink()
    more = folder / "more"
    assert main(["classify", "--url", standin.url, "--jsonl", "--pictures", f"{folder}/", f"{more}/"]) == 0
    captured = capsys.readouterr()
    found = answers(captured.out)
    assert [Path(each["path"]).name for each in found] == ["a.mp4", "b.mp4", "cover.JPG", "still.png", "c.mp4"]
    assert captured.err == ""
    assert np.isfinite([each["confidence"] for each in found]).all()


def test_a_folder_of_videos_alone_needs_no_sentence(
    standin: StandinServer, video: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["classify", "--url", standin.url, "--jsonl", str(video.parent)]) == 0
    assert capsys.readouterr().err == ""
