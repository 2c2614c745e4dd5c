import numpy as np
import pytest

from reelkind.training.inputs.augment import augment_clip


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    ramp = np.linspace(0, 255, 120).astype(np.uint8)
    return np.stack(
        [np.tile(ramp, (90, 1)), np.tile(ramp[:90, None], (1, 120)), np.full((90, 120), 128, np.uint8)], axis=-1
    )


@pytest.mark.parametrize(("available", "wanted"), [(1, 1), (1, 4), (3, 4), (16, 4)])
def test_any_clip_gives_the_frames_asked_for(picture: np.ndarray, available: int, wanted: int) -> None:
    for seed in range(25):
        clip = augment_clip(np.stack([picture] * available), wanted, 64, np.random.default_rng(seed))
        assert (clip.shape, clip.dtype) == ((wanted, 64, 64, 3), np.uint8)


def test_the_seed_decides_everything(picture: np.ndarray) -> None:
    first, again, other = (augment_clip(picture[None], 2, 64, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_frames_stay_in_order(picture: np.ndarray) -> None:
    frames = np.stack([np.full_like(picture, level) for level in range(20, 240, 20)])
    ordered = 0
    for seed in range(20):
        means = augment_clip(frames, 5, 64, np.random.default_rng(seed)).mean(axis=(1, 2, 3))
        ordered += bool((np.diff(means) > -2).all())
    assert ordered == 20


def test_damage_leaves_the_picture_recognisable(picture: np.ndarray) -> None:
    copies = np.stack([augment_clip(picture[None], 1, 64, np.random.default_rng(seed))[0] for seed in range(40)])
    red = copies[..., 0].astype(float).mean(axis=1)  # [seeds, S]: brightness from left to right
    correlation = [abs(np.corrcoef(row, np.arange(64))[0, 1]) for row in red]
    assert np.median(correlation) > 0.9
