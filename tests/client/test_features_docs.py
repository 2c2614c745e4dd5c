"""Every Python block of docs/features.md and docs/timelines.md runs as it stands, against a real tritonserver."""

from __future__ import annotations

import re
import shutil
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest

if TYPE_CHECKING:
    from reelkind.serving.server import TritonServer

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]


def blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the sample films, a smaller copy of each, and the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "films").mkdir()
    for sample in sorted((ROOT / "samples").glob("*.mp4")):
        shutil.copy(sample, tmp_path / "films")
        write_smaller(sample, tmp_path / "films" / f"small_{sample.name}")
    shutil.copy(ROOT / "samples" / "natural_handheld.mp4", tmp_path / "holiday.mp4")
    shutil.copy(ROOT / "samples" / "natural_handheld.mp4", tmp_path / "film.mkv")
    return tmp_path


def write_smaller(source: Path, target: Path) -> None:
    """Encode every fifth frame anew at a smaller size."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=5, options={"preset": "ultrafast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for index, frame in enumerate(container.decode(video=0)):
            if index % 5 == 0:
                smaller = frame.reformat(192, 128, "yuv420p")
                smaller.pts, smaller.time_base = index // 5, Fraction(1, 5)
                output.mux(stream.encode(smaller))
        output.mux(stream.encode(None))


def run(code: str, server: TritonServer) -> None:
    assert "127.0.0.1:8001" in code
    exec(compile(code.replace("127.0.0.1:8001", server.url), "docs", "exec"), {"__name__": "docs"})


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["features.md", "timelines.md"])
def test_blocks_run_as_they_stand(name: str, triton_server: TritonServer, capsys: pytest.CaptureFixture) -> None:
    for code in blocks(name):
        run(code, triton_server)
    assert capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_the_nearest_neighbour_of_a_video_is_its_copy(
    triton_server: TritonServer, capsys: pytest.CaptureFixture
) -> None:
    (code,) = (block for block in blocks("features.md") if "nearest" in block)
    run(code, triton_server)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    for line in lines:
        of, nearest = re.findall(r"(\w+)\.mp4", line)
        assert of.removeprefix("small_") == nearest.removeprefix("small_"), line
