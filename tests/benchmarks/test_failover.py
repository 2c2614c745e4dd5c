"""Two real servers behind one client: one is killed under load, nothing is lost, and it comes back slowly."""

from pathlib import Path

import pytest

from reelkind.benchmarks import failover
from reelkind.core.bundle import Bundle


@pytest.mark.triton
def test_killed_server_costs_no_answer(triton_runtime: object, served_bundle: Bundle) -> None:
    del triton_runtime  # skips where there is none
    folder = Path(served_bundle.folder or "")
    report = failover.measure(folder, answers=200, callers=4, rounds=0, num_clips=0, num_frames=2)
    assert report["lost"] == []
    assert report["wrong"] == 0
    assert report["answers"] >= 200
    shares = report["share_of_the_returned"]
    assert 0 < shares["first 3 s"] < 0.3 < shares["after the slow start"]
