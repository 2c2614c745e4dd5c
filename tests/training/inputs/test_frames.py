"""Reading training frames in this process and in others."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelkind.core.errors import VideoError
from reelkind.datasets.sample import Sample
from reelkind.training.config import AugmentConfig
from reelkind.training.inputs.frames import CLEAN, FrameReader

AUGMENT = AugmentConfig(num_variants=2, frames_per_clip=2, clean_frames_per_clip=3, source_size_px=64)


@pytest.fixture
def stills(tmp_path: Path) -> list[Sample]:
    samples = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        pixels = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path=path, label=i % 4, work=str(i), source="stills"))
    return samples


def test_workers_give_the_pixels_and_the_order_of_one_process(stills: list[Sample]) -> None:
    alone = FrameReader(AUGMENT, size_px=32, num_frames=4, seed=3)
    helped = FrameReader(AUGMENT, size_px=32, num_frames=4, seed=3, num_workers=2)
    for one, other in zip(alone.read(stills, [CLEAN, 0, 1]), helped.read(stills, [CLEAN, 0, 1]), strict=True):
        assert [number for number, _ in one] == [number for number, _ in other] == [CLEAN, 0, 1]
        for (_, frames), (_, same) in zip(one, other, strict=True):
            np.testing.assert_array_equal(frames, same)


def test_an_unreadable_file_is_named_by_a_worker_too(stills: list[Sample]) -> None:
    stills[5].path.write_bytes(b"no picture")
    reader = FrameReader(AUGMENT, size_px=32, num_frames=4, seed=3, num_workers=2)
    with pytest.raises(VideoError, match=r"5\.png"):
        list(reader.read(stills, [CLEAN]))


def test_readers_do_without_torch() -> None:
    code = "import sys, reelkind.training.inputs.frames; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
