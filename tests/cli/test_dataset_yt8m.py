"""The whole way from shards to a manifest, as typed at a shell."""

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets.yt8m.lookup_server import LookupServer, lookup_server, youtube_id
from datasets.yt8m.made_records import made_shard, write_frame_records
from datasets.yt8m.standin_yt_dlp import StandinYtDlp
from videos import write_video

from reelkind.cli.main import build_parser, main
from reelkind.core.errors import ConfigError
from reelkind.datasets.samples import read_samples

NUM = 46
MISSING = "YouTube-8M's records need google_crc32c: pip install 'reelkind[yt8m]'"
FEATURES_CONFIG = Path(__file__).parents[2] / "training" / "configs" / "yt8m_features.toml"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LookupServer]:
    monkeypatch.setenv("no_proxy", "*")
    with lookup_server() as running:
        yield running


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_frame_records(folder / "train00.tfrecord", made_shard(0, 2))
    write_frame_records(folder / "validate00.tfrecord.gz", made_shard(1000, 1))
    return folder


@pytest.fixture
def yt_dlp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandinYtDlp:
    clip = tmp_path / "clip.mp4"
    write_video(clip, 10)
    program = StandinYtDlp(tmp_path / "bin", clip)
    monkeypatch.setenv("PATH", str(program.folder), prepend=os.pathsep)
    return program


def yt8m(*arguments: object) -> int:
    return main(["dataset", "yt8m", *map(str, arguments)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_from_shards_to_a_manifest(
    shards: Path, server: LookupServer, yt_dlp: StandinYtDlp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    assert yt8m("select", shards, "--out", work, "--videos", 12) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[1].split() == ["animation/anime_shonen_action", "3", "1", "1"]
    assert table[NUM + 1] == f"12 chosen of {3 * NUM} seen"

    chosen = [row["id"] for row in rows(work / "selection.csv")]
    server.statuses[chosen[0]] = [404]
    assert yt8m("resolve", work, "--base-url", server.url, "--rate", 100, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"found": 11, "gone": 1, "open": 0}

    assert yt8m("urls", work) == 0
    urls = capsys.readouterr().out.splitlines()
    assert urls == [f"https://www.youtube.com/watch?v={youtube_id(video_id)}" for video_id in chosen[1:]]

    yt_dlp.set_outcomes({youtube_id(chosen[1]): "Private video", youtube_id(chosen[2]): "Connection reset by peer"})
    assert yt8m("fetch", work, "--seconds", 10, "--json", "--yt-dlp-options=--cookies c.txt") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"here": 9, "gone": 1, "failed": 1, "manifest_rows": 9}
    assert f"{youtube_id(chosen[2])}: " in captured.err
    assert yt_dlp.calls[0]["cookies"] == "c.txt"
    yt_dlp.set_outcomes({})
    assert yt8m("fetch", work) == 0
    assert capsys.readouterr().out == "10 here, 1 gone, 0 failed, 10 manifest rows\n"

    dead = {row["id"]: row["stage"] for row in rows(work / "dead.csv")}
    assert dead == {chosen[0]: "resolve", chosen[1]: "fetch"}
    assert {sample.work for sample in read_samples(tmp_path, ["work"])} == {youtube_id(i) for i in chosen[2:]}


def test_features_of_the_chosen_are_copied(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert yt8m("select", shards, "--out", tmp_path / "work", "--videos", NUM) == 0
    capsys.readouterr()
    assert yt8m("features", tmp_path / "work", shards) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'work' / 'features'}\n"
    assert yt8m("show", tmp_path / "work" / "features") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == NUM
    assert {line.split("\t")[1].split("/")[0] for line in lines} == {"animation", "gaming", "natural", "flat"}


def test_a_damaged_shard_is_reported_and_the_others_are_used(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shards / "broken.tfrecord").write_bytes(b"not a record, but long enough to have a header")
    assert yt8m("select", shards, "--out", tmp_path / "work", "--videos", 10, "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["chosen"] == 10
    assert "reelkind: left out: " in captured.err
    assert "broken.tfrecord: no TFRecord at byte 0" in captured.err
    assert yt8m("show", shards) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3 * NUM
    assert "broken.tfrecord" in captured.err


@pytest.mark.parametrize("step", ["resolve", "urls", "fetch"])
def test_steps_out_of_order_say_what_comes_first(step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert yt8m(step, tmp_path) == 1
    assert "run `reelkind dataset yt8m select` first" in capsys.readouterr().err


def test_fetching_before_resolving_is_refused(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yt8m("select", shards, "--out", tmp_path / "work", "--videos", 10)
    assert yt8m("fetch", tmp_path / "work") == 1
    assert "run `reelkind dataset yt8m resolve` first" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("select", "x"),
        ("select", "x", "--out", "y", "--videos", "0"),
        ("resolve", "x", "--rate", "0"),
        ("resolve", "x", "--rate", "fast"),
        ("fetch", "x", "--start", "-1"),
        ("fetch", "x", "--seconds", "nan"),
        ("fetch", "x", "--yt-dlp-options", "'"),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        yt8m(*arguments)
    assert caught.value.code == 2


def commands_of_the_page() -> list[str]:
    page = Path(__file__).parents[2] / "docs" / "yt8m.md"
    lines = [line.split("#")[0].split(" > ")[0].strip() for line in page.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.startswith("reelkind ")]


@pytest.mark.parametrize("command", commands_of_the_page())
def test_every_command_of_the_page_is_understood(command: str) -> None:
    build_parser().parse_args(shlex.split(command)[1:])


def test_the_page_shows_every_step() -> None:
    shown = {command.split()[3] for command in commands_of_the_page() if " yt8m " in command.split("/")[0]}
    assert shown >= {"show", "select", "resolve", "urls", "fetch", "features"}


def test_training_on_features_prints_its_figures_and_replaces_nothing_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from reelkind.cli import train_on_features as _yt8m_training

    write_frame_records(tmp_path / "train00.tfrecord", made_shard(0, 4))
    settings = ["num_frames=2", "num_threads=1", "num_bootstraps=10", "data.val_share=0.3"]
    settings += ["head.steps=3", "head.width=16", "head.num_layers=1", "head.num_frames=2"]
    args = argparse.Namespace(
        config=FEATURES_CONFIG, overrides=settings, data=tmp_path, out=tmp_path / "out", overwrite=False, json=False
    )
    assert _yt8m_training.run(args) == 0
    summary = capsys.readouterr().out
    assert "cannot classify video files by itself" in summary
    assert "val" in summary
    with pytest.raises(ConfigError, match="holds a trained head already: choose another --out, or --overwrite it"):
        _yt8m_training.run(args)
    args.overwrite = args.json = True
    assert _yt8m_training.run(args) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "yt8m_features"
    assert "no test set" in (tmp_path / "out" / "README.md").read_text()


def test_a_missing_checksum_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['google_crc32c'] = None; from reelkind.cli.main import build_parser, main; "
        f"sys.exit(main(['dataset', 'yt8m', 'urls', {str(tmp_path)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"reelkind: {MISSING}\n")
