"""FFmpeg's command line, as docs/raw_contract.md has it, makes the frames that our client makes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from test_raw_contract import ROOT, blocks, request
from tritonclient.grpc import service_pb2_grpc
from videos import bars, read_index, read_indices, write_video

from reelkind.client import Client
from reelkind.video.clip import read_clip

SHAPE = (1, 16, 224, 224, 3)
SAMPLES = sorted((ROOT / "samples").glob("*.mp4"))
VIDEOS: dict[str, dict[str, Any]] = {
    "mp4": {"num_frames": 50},
    "mp4 with instants on frames": {"num_frames": 192, "fps": 24},
    "mp4 of fewer frames than asked for": {"num_frames": 5},
    "mp4 of one frame": {"num_frames": 1},
    "mp4 with reordered frames": {"num_frames": 60, "b_frames": 2},
    "mp4 with pauses": {"pts_ms": [*range(0, 1000, 40), *range(3000, 3500, 100), *range(9000, 10_000, 20)]},
    "mp4 with more sound than pictures": {"num_frames": 50, "audio_s": 4},
    "ts": {"num_frames": 75},
    "mkv": {"num_frames": 75, "fps": 30},
    "avi": {"num_frames": 75, "codec": "mpeg4"},
}


@pytest.fixture
def by_hand(tmp_path):
    """What the page's command writes of a file."""
    for name in ("ffmpeg", "ffprobe"):
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed")
    of_video, of_picture = blocks("sh", "Frames of a video")

    def convert(path: Path) -> bytes:
        command = of_picture.replace("picture.png", str(path)) if path.suffix == ".png" else of_video
        command = command.replace("clip.mp4", str(path))
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return (tmp_path / "frames.rgb").read_bytes()

    return convert


@pytest.mark.parametrize("kind", VIDEOS)
def test_frames_are_those_of_the_client(kind, by_hand, tmp_path) -> None:
    path = write_video(tmp_path / f"made.{kind.split()[0]}", **VIDEOS[kind])
    frames = np.frombuffer(by_hand(path), np.uint8).reshape(SHAPE[1:])
    assert read_indices(frames) == read_indices(read_clip(path).frames)


def test_picture_is_repeated(by_hand, tmp_path) -> None:
    Image.fromarray(bars(717, 320, 200)).save(tmp_path / "picture.png")
    frames = np.frombuffer(by_hand(tmp_path / "picture.png"), np.uint8).reshape(SHAPE[1:])
    assert {read_index(frame) for frame in frames} == {717}
    assert abs(frames - read_clip(tmp_path / "picture.png").frames.astype(float)).mean() < 1


def test_video_that_ends_early_is_too_small_a_file(by_hand, tmp_path) -> None:
    path = write_video(tmp_path / "made.mkv", 50, audio_s=8)
    assert 0 < len(by_hand(path)) < np.prod(SHAPE)


@pytest.mark.triton
def test_samples_are_answered_as_by_the_client(by_hand, triton_server) -> None:
    with Client(triton_server.url) as client, grpc.insecure_channel(triton_server.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for path in SAMPLES:
            frames = np.frombuffer(by_hand(path), np.uint8).reshape(SHAPE)
            assert abs(frames[0] - read_clip(path).frames.astype(float)).mean() < 1
            response = stub.ModelInfer(request("classify", frames), timeout=60)
            place = [output.name for output in response.outputs].index("probabilities")
            probabilities = np.frombuffer(response.raw_output_contents[place], np.float32)
            np.testing.assert_allclose(probabilities, list(client.classify(path).scores.values()), atol=0.01)
