"""A Ray cluster of two nodes on this machine, which jobs join as they would one of many machines."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reelkind.benchmarks.bulk.cluster import BRIEF, Cluster, two_nodes


@pytest.fixture(scope="session")
def brief_ray() -> Iterator[None]:
    """What nodes and drivers of tests share."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in BRIEF.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def cluster(brief_ray: None) -> Iterator[Cluster]:
    """Two nodes with one CPU each."""
    pytest.importorskip("ray", reason="the extra bulk is not installed")
    with two_nodes() as cluster:
        yield cluster
