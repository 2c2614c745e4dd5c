"""The measure of neighbours, on vectors whose neighbours are known."""

from pathlib import Path

import numpy as np

from reelkind.benchmarks.neighbours import measure, nearest
from reelkind.datasets.sample import Sample


def test_nearest_takes_off_the_mean_and_keeps_to_what_is_allowed() -> None:
    vectors = np.array([[9.0, 1.0], [9.0, 2.0], [9.0, -1.0], [9.0, -2.0]])  # alike, but for the second place
    assert nearest(vectors, ~np.eye(4, dtype=bool)).tolist() == [1, 0, 3, 2]
    assert nearest(vectors, np.ones((4, 4), bool) & np.array([False, False, False, True])).tolist() == [3] * 4


def test_clips_of_the_same_work_are_no_neighbours() -> None:
    kinds = [("val", 0, "a"), ("val", 0, "a"), ("train", 0, "b"), ("train", 1, "c"), ("val", 1, "d")]
    samples = [
        Sample(Path(f"{i}.mp4"), label, work, "clips", split, subcategory=work)
        for i, (split, label, work) in enumerate(kinds)
    ]
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    found = measure(samples, {"embedding": vectors})
    assert (found["num_asked"], found["num_works"]) == (3, 2)
    among = found["among"]
    assert among["all clips"]["embedding"]["class"]["share"] == 1.0
    assert among["all clips"]["embedding"]["subcategory"]["share"] == 0.0
    assert among["all clips"]["by_chance"]["class"] == round((1 + 1 + 1) / (3 + 3 + 4), 3)
    assert among["validation clips"]["embedding"]["class"]["share"] == 0.0
