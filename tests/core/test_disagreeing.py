"""core.disagreeing: which classes share a clip."""

import numpy as np
import pytest

from reelkind.core.disagreeing import disagreement

SURE_OF = np.full((4, 4), 0.02) + np.eye(4) * 0.92


def frames(*numbers: int | None) -> np.ndarray:
    """Class probabilities of frames that surely show these classes; None for one that shows nothing surely."""
    return np.stack([np.array([0.6, 0.3, 0.05, 0.05]) if number is None else SURE_OF[number] for number in numbers])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0, 0, 0, 0), []),
        ((0, 0, 0, 2), [(0, 0.75), (2, 0.25)]),
        ((2, 2, 1, 1, 1), [(1, 0.6), (2, 0.4)]),
        ((3, 3, 1, 1, 0, None), [(1, pytest.approx(1 / 3)), (3, pytest.approx(1 / 3))]),
        ((0,) * 9 + (1,), []),
        ((None, None, None, 1), []),
        ((None, None, None, None), []),
        ((1,), []),
    ],
    ids=["agree", "one-of-four", "most-first", "one-frame-of-six", "one-of-ten", "one-class-is-sure", "unsure", "T=1"],
)
def test_classes_with_a_considerable_share_of_sure_frames_share_a_clip(numbers: tuple, expected: list) -> None:
    assert disagreement(frames(*numbers).astype(np.float32)) == expected


def test_the_order_of_frames_does_not_count() -> None:
    shown = frames(0, 0, 0, 2, 2, None)
    assert disagreement(shown) == disagreement(shown[np.random.default_rng(0).permutation(len(shown))])
