"""Features are of the contents whose hash they carry, or there are none."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from standin import StandinServer
from videos import write_video

from reelkind.cli.main import main
from reelkind.cli.options import connecting
from reelkind.client import AsyncClient, Client, InlineDecoder, VideoError
from reelkind.video.clip import Chunk
from reelkind.video.decoding import Decoded


class Rewriting(InlineDecoder):
    """Somebody puts another video in the place of the one that was just hashed."""

    def __init__(self, other: Path) -> None:
        super().__init__()
        self._other = other

    def decode(self, path: str | os.PathLike[str], *, num_frames: int, size_px: int) -> Decoded:
        shutil.copy(self._other, path)
        return super().decode(path, num_frames=num_frames, size_px=size_px)

    def stream(self, path: str | os.PathLike[str], *, rate: float, size_px: int) -> Generator[Chunk, None, None]:
        shutil.copy(self._other, path)
        yield from super().stream(path, rate=rate, size_px=size_px)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4", 20)


@pytest.fixture
def decoder(tmp_path: Path) -> Rewriting:
    return Rewriting(write_video(tmp_path / "b.mp4", 30))


@pytest.mark.parametrize("rate", [None, 2.0], ids=["clip", "stream"])
def test_a_file_that_changes_while_it_is_read_has_no_features(
    standin: StandinServer, video: Path, decoder: Rewriting, rate: float | None
) -> None:
    complaint = r"a\.mp4: changed while it was read: try again"
    with Client(standin.url, decoder=decoder) as client, pytest.raises(VideoError, match=complaint):
        client.extract_features(video, rate=rate)
    with Client(standin.url) as client:
        assert client.extract_features(video, rate=rate).source.num_bytes == video.stat().st_size


def test_the_asyncio_client_notices_too(standin: StandinServer, video: Path, decoder: Rewriting) -> None:
    async def extract() -> None:
        async with AsyncClient(standin.url, decoder=decoder) as client:
            await client.extract_features(video)

    with pytest.raises(VideoError, match="changed while it was read"):
        asyncio.run(extract())


def test_the_command_writes_no_file_for_it(
    standin: StandinServer,
    video: Path,
    decoder: Rewriting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(connecting, "decoder", lambda args, stack: decoder)
    arguments = ["features", "extract", str(video), "--out", str(tmp_path / "out"), "--url", standin.url]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert (captured.out, list((tmp_path / "out").iterdir())) == ("", [])
    assert f"reelkind: {video}: changed while it was read" in captured.err
