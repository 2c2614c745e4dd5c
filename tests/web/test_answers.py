"""Answers of the whole application with a real server."""

from __future__ import annotations

import pytest

from .conftest import SAMPLES
from .served import Served

pytestmark = pytest.mark.triton

KEPT_MS = 100.0


def test_an_answer_is_that_of_the_command_line(served: Served) -> None:
    job = served.finished(served.post(SAMPLES / "animation_cartoon.mp4", timeline="true")["id"])
    result = job["result"]
    assert (job["status"], result["label"], result["error"]) == ("done", "animation", None)
    assert result["path"] == "animation_cartoon.mp4"
    assert {"confidence", "reason", "scores", "timings_ms", "model", "from_cache", "attention"} <= result.keys()
    assert set(job["stages_ms"]) >= {"queued", "decode", "server"}
    assert job["timeline"]["segments"][0]["label"] == "animation"
    assert [picture["time_ms"] for picture in job["pictures"]] == sorted(set(result["times_ms"]))


def test_features_kept_answer_in_a_tenth_of_a_second(served: Served) -> None:
    first = served.finished(served.post(SAMPLES / "flat_slides.mp4")["id"])
    again = [served.finished(served.post(source=first["id"], tta="fast")["id"]) for _ in range(8)]
    assert all(job["result"]["from_cache"] and "decode" not in job["stages_ms"] for job in again)
    assert {job["result"]["label"] for job in again} == {first["result"]["label"]}
    assert min(job["server_ms"] for job in again) < KEPT_MS
