"""What measures bulk jobs: made videos are as they are said to be, processes are found and read."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelkind.benchmarks.bulk import made_videos, stores
from reelkind.benchmarks.bulk.answers import compare, differing
from reelkind.benchmarks.bulk.watch import INTERVAL_S, Watch, cpu_s
from reelkind.bulk import fetching, parts, rows
from reelkind.client import Failure
from reelkind.core.errors import VideoError
from reelkind.video import fetching as remote
from reelkind.video.clip import read_clip

BUSY = """
import time
held = bytearray(64 << 20)
began = time.process_time()
while time.process_time() - began < 1: pass
time.sleep(60)
"""


def test_good_videos_are_read_and_bad_ones_are_not(tmp_path: Path) -> None:
    paths = made_videos.make(tmp_path / "videos", 45, 0.1)
    assert len({path.read_bytes() for path in paths if path.name.startswith(made_videos.GOOD)}) == 41
    bad = [path for path in paths if path.name.startswith(made_videos.BAD)]
    assert len(bad) == 4
    for path in paths:
        if path in bad:
            with pytest.raises(VideoError):
                read_clip(path)
        else:
            assert read_clip(path, num_frames=2, size_px=32).frames.std() > 1


def test_watch_adds_up_a_child_s_time_and_memory() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"]
    ) as parent:
        with Watch([parent.pid]) as watch:
            until = time.monotonic() + 60
            while watch.cpu_s() < 1:
                assert time.monotonic() < until
                time.sleep(INTERVAL_S)
        for pid in watch.traces:
            if pid != parent.pid:
                subprocess.run(["kill", str(pid)], check=True)
    assert len(watch.traces) == 2
    assert 64 < max(trace.memory_mib[-1] for trace in watch.traces.values()) < 128


def test_rows_that_were_exchanged_are_wrong(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="the extra bulk is not installed")
    files = {name: tmp_path / name for name in ("a.mp4", "b.mp4")}
    for name, file in files.items():
        file.write_text(name)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in files}
    right = {str(file): Failure(str(file), VideoError(file, "no video")) for file in files.values()}
    found = [rows.failed(name, hashes[name], VideoError(name, "no video")) for name in files]
    exchanged = [{**row, "sha256": other["sha256"]} for row, other in zip(found, reversed(found), strict=True)]
    for out, written in (("right", found), ("wrong", exchanged)):
        (tmp_path / out).mkdir()
        writer = parts.Writer(tmp_path / out, set())
        writer.add(pa.Table.from_pylist(written, schema=rows.schema()))
        writer.flush()
        assert compare(tmp_path / out, files, right)["wrong"] == (2 if out == "wrong" else 0)
    assert differing((tmp_path / "right", files), (tmp_path / "wrong", files)) == 2


def test_stores_hold_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="the extra bulk is not installed")
    pytest.importorskip("moto.server", reason="moto is not installed")
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in paths:
        path.write_text(path.name)
    with stores.spread(paths) as spread:
        for name, value in spread.variables.items():
            monkeypatch.setenv(name, value)
        remote._s3.cache_clear()
        assert [uri.partition(":")[0] for uri in spread.files][1:] == ["http", "s3"]
        for uri, path in spread.files.items():
            with fetching.fetched(uri, "") as file:
                assert file.sha256 == hashlib.sha256(path.name.encode()).hexdigest()


def test_time_of_children_that_ended_is_counted() -> None:
    before_s = cpu_s([])
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    assert 0.5 <= cpu_s([]) - before_s < 3
