"""Cached features of a frozen backbone: whatever was computed is never computed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reelkind.datasets.sample import Sample
from reelkind.models.backbones import build_backbone
from reelkind.models.clip_vit import TINY_NAME
from reelkind.models.folding import Stem
from reelkind.training.config import AugmentConfig, BackboneConfig
from reelkind.training.inputs import frames as frames_module
from reelkind.training.inputs.features import ActivationStore
from reelkind.training.inputs.frames import CLEAN

AUGMENT = AugmentConfig(num_variants=1, frames_per_clip=2, clean_frames_per_clip=3, source_size_px=64)
BACKBONE = BackboneConfig(name=TINY_NAME, frame_size_px=32)


@pytest.fixture
def stills(tmp_path: Path) -> list[Sample]:
    samples = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        pixels = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path=path, label=i % 4, work=str(i), source="stills"))
    return samples


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read, in order."""
    names, original = [], frames_module.read_clip

    def noted(path: Path, **options: int) -> object:
        names.append(path.name)
        return original(path, **options)

    monkeypatch.setattr(frames_module, "read_clip", noted)
    return names


def store(folder: Path, augment: AugmentConfig = AUGMENT, num_blocks: int = 4, seed: int = 0) -> ActivationStore:
    torch.manual_seed(seed)
    stem = Stem(build_backbone(TINY_NAME, frame_size_px=32), num_blocks)
    return ActivationStore(folder, stem, BACKBONE, augment, num_frames=4, seed=3)


def test_features_are_the_backbones_own(stills: list[Sample], tmp_path: Path) -> None:
    found = store(tmp_path / "cache").clean(stills)
    torch.manual_seed(0)
    backbone = build_backbone(TINY_NAME, frame_size_px=32)
    frames = frames_module.read_clip(stills[2].path, num_frames=1, size_px=32).frames
    with torch.no_grad():
        expected = backbone(torch.from_numpy(frames).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found.of(2), expected, rtol=2e-3, atol=2e-3)


def test_only_what_is_new_is_read_and_nothing_depends_on_the_rest(
    stills: list[Sample], tmp_path: Path, read: list[str]
) -> None:
    first = store(tmp_path / "cache").variants(stills[:4], [CLEAN, 0])
    read.clear()
    more = [stills[5], *stills[1:4], stills[4]]
    second = store(tmp_path / "cache").variants(more, [CLEAN, 0])
    assert sorted(set(read)) == ["4.png", "5.png"]
    alone = store(tmp_path / "other").variants(more, [0])
    for before, after in zip(first, second, strict=True):
        for place in (1, 2, 3):
            np.testing.assert_array_equal(before.of(place), after.of(place))
    np.testing.assert_array_equal(second[1].values, alone[0].values)


def test_a_killed_run_goes_on_with_the_next_sample(stills: list[Sample], tmp_path: Path, read: list[str]) -> None:
    stills[3].path.rename(tmp_path / "hidden")
    with pytest.raises(Exception, match=r"3\.png"):
        store(tmp_path / "cache").clean(
            [Sample(**{**vars(still), "sha256": f"{i:064x}"}) for i, still in enumerate(stills)]
        )
    (tmp_path / "hidden").rename(stills[3].path)
    read.clear()
    store(tmp_path / "cache").clean(
        [Sample(**{**vars(still), "sha256": f"{i:064x}"}) for i, still in enumerate(stills)]
    )
    assert read == ["3.png", "4.png", "5.png"]


def test_other_weights_and_other_damage_are_other_features(
    stills: list[Sample], tmp_path: Path, read: list[str]
) -> None:
    folder = tmp_path / "cache"
    store(folder).variants(stills[:2], [CLEAN, 0])
    read.clear()
    harder = AugmentConfig(num_variants=1, frames_per_clip=1, clean_frames_per_clip=3, source_size_px=64)
    store(folder, harder).variants(stills[:2], [CLEAN])
    assert read == []  # undamaged frames do not depend on how others are damaged
    store(folder, harder).variants(stills[:2], [CLEAN, 0])
    assert len(read) == 2
    store(folder, seed=1).clean(stills[:2])
    assert len(read) == 4


def test_tokens_are_cached_where_the_last_block_is_to_be_trained(stills: list[Sample], tmp_path: Path) -> None:
    found = store(tmp_path / "cache", num_blocks=3).clean(stills)
    assert found.values.shape == (6, 5, 32)
    assert isinstance(found.values, np.memmap)
