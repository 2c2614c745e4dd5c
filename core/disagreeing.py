"""Whether the frames of a clip show different kinds: class probabilities of frames to the classes that share it. Pure.

A frame counts for a class that is at least ``SURE`` likely. Two classes that each have a ``CONSIDERABLE`` share of all
frames make a mixed clip.

The numbers come of the 73 clips of a validation set and the 4 samples as they are, and of 1,373 pairs of clips of
different classes in one, of which the first took a half, a quarter or three quarters of the frames. With them `clip`
(of 4 frames) finds 90 % of the pairs and `lite` (of 16) 38 %; each takes one of the 77 for mixed, and of 427 pairs of
one class, whose pictures change as suddenly, 5 and 3 %. If 0.7 were sure enough, that would be 95 and 56 % of pairs,
3 and 1 of the 77, 8 and 11 %. A share of 0.15 would give `lite` 46 % of the pairs, and 5 % of those of one class; for
`clip` it is a frame of the 4 as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SURE = 0.85
CONSIDERABLE = 0.2


def disagreement(frames: npt.NDArray[np.floating[Any]]) -> list[tuple[int, float]]:
    """The classes that share a clip, as (number, share of its frames), that of the most frames first.

    Args:
        frames: float [T, K], class probabilities of each frame.

    Returns:
        At least two, or none if the frames agree.

    >>> disagreement(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.1, 0.9]]))
    [(0, 0.5), (1, 0.25)]
    >>> disagreement(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]]))
    []
    """
    sure = (frames >= SURE).mean(axis=0)  # [K]
    found = [(number, float(share)) for number, share in enumerate(sure) if share >= CONSIDERABLE]
    return sorted(found, key=lambda item: -item[1]) if len(found) > 1 else []
