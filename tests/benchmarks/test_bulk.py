"""What measures bulk jobs: made videos are as they are said to be, processes are found and read."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelkind.benchmarks.bulk import made_videos
from reelkind.benchmarks.bulk.watch import INTERVAL_S, Watch
from reelkind.core.errors import VideoError
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
