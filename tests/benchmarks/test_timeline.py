"""The arithmetic of the timeline benchmark."""

import pytest

from reelkind.benchmarks.timelines.long_videos import border_errors_s


@pytest.mark.parametrize(
    ("found_ms", "labels", "expected"),
    [
        ([10_500, 18_000], ["flat", "gaming", "natural"], [0.5, 2.0]),
        ([10_500], ["flat", "flat", "natural"], [9.5]),
        ([10_500], ["flat"], []),
        ([], ["flat", "gaming", "gaming"], [None]),
        ([], ["flat"], []),
    ],
    ids=["all", "same-label", "one-clip", "one-segment", "nothing"],
)
def test_every_border_has_an_error_even_if_none_was_found(found_ms, labels, expected) -> None:
    assert border_errors_s(found_ms, labels, 10.0) == expected
