"""Small forms of what `make reliability` does: what is drawn, how it is judged, and a few hundred of each for real."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reelkind.benchmarks.reliability import bad_requests, files, hostile_files, messages, mutations, page, soak
from reelkind.benchmarks.reliability.seed_videos import write_all
from reelkind.core.errors import VideoError
from reelkind.serving.server import TritonServer
from reelkind.video.decoding import ProcessDecoder
from tests.serving import tiny_repository


def test_a_number_gives_the_same_damage_and_another_another() -> None:
    data, other = bytes(range(256)) * 20, b"other" * 100
    drawn = [mutations.mutate(16, number, data, other) for number in range(50)]
    assert drawn == [mutations.mutate(16, number, data, other) for number in range(50)]
    assert len({content for content, _ in drawn}) > 40
    assert {name for _, names in drawn for name in names} == {each.__name__ for each in mutations.MUTATIONS}


def test_a_number_gives_the_same_message() -> None:
    drawn = [bad_requests.message(16, number) for number in range(120)]
    assert drawn == [bad_requests.message(16, number) for number in range(120)]
    assert {each.wire for each in drawn} == {"grpc", "http"}


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("no such file", files.REFUSED),
        ("its decoder crashed (Segmentation fault): the file is damaged or malicious", files.CRASHED),
        ("cannot be decoded (KeyError: 'bug')", files.UNFORESEEN),
        ("decoding needs more than the 3072 MiB of memory it is allowed", files.LIMITED),
    ],
)
def test_refusals_are_told_from_faults(reason: str, verdict: str) -> None:
    def refuse() -> None:
        raise VideoError("a.mp4", reason)

    assert files.judge(Path("a.mp4"), refuse) == (verdict, reason)
    assert files.judge(Path("b.mp4"), refuse)[0] == files.MISNAMED


def test_what_is_no_refusal_is_told() -> None:
    assert files.judge(Path("a.mp4"), lambda: 1 // 0) == (
        files.ESCAPED,
        "ZeroDivisionError: integer division or modulo by zero",
    )


@pytest.fixture(scope="module")
def decoder():
    with ProcessDecoder(1) as decoder:
        yield decoder


def test_damaged_files_are_answered_or_refused_by_a_sentence(decoder: ProcessDecoder, tmp_path: Path) -> None:
    seeds = list(write_all(tmp_path / "sound", ["libx264", "mpeg4", "ffv1"], ["mp4", "matroska", "avi", "flv"]))
    tally = files.Tally()
    for name, path in files.damaged(seeds, 1, 120, tmp_path):
        found = files.judge(path, lambda path=path: decoder.decode(path, num_frames=2, size_px=32))
        tally.add(name, files.Outcome(*found, 0.0, 0.0))
    assert tally.bad == []
    assert min(tally.counts[files.ANSWERED], tally.counts[files.REFUSED]) > 10


def test_paths_that_are_no_files_are_refused_at_once(decoder: ProcessDecoder, tmp_path: Path) -> None:
    for name, path in hostile_files.write_special(tmp_path / "special").items():
        verdict, sentence = files.judge(path, lambda path=path: decoder.decode(path, num_frames=2, size_px=32))
        assert verdict == files.REFUSED, (name, sentence)


def test_the_peak_of_memory_is_that_of_the_file() -> None:
    with files.peak_memory(lambda: {os.getpid()}) as peak:
        held = np.ones(1 << 24)  # 128 MiB
    assert peak[0] > 128
    assert held.all()


@pytest.mark.triton
def test_bad_messages_by_grpc_end_no_process(triton_runtime, tmp_path: Path) -> None:
    repository = tiny_repository.write(tmp_path)
    ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    with TritonServer(repository, runtime=triton_runtime, **ports) as server:
        before = messages.identities(server)
        with closing(messages.Sender(server)) as sender:
            found = messages.send_all(sender, messages.draw(1, 200, "grpc"), 1000.0, lambda line: None)
            assert found.total() == 200
            assert not [kind for kind, outcome in found if outcome == messages.HUNG]
            assert sender.internals == set()
        frames = tiny_repository.random_frames()
        expected = tiny_repository.expected_probabilities(frames)
        np.testing.assert_allclose(tiny_repository.infer(server.url, frames), expected, atol=1e-6)
        assert messages.identities(server) == before


def test_growth_is_that_after_the_warm_up() -> None:
    assert soak.growth_percent([1.0, 50.0, 90.0, *[100.0] * 6]) == 0.0
    assert soak.growth_percent([0, 0, 0, 100, 102, 104, 106, 108, 110]) == pytest.approx(10.0)
    assert soak.growth_percent([1.0, 2.0]) is None


def test_faults_of_files_stand_in_the_table() -> None:
    tally = files.Tally()
    tally.add("a", files.Outcome(files.CRASHED, "its decoder crashed", 1.0, 2.0))
    assert "| 1 decoder crashed |" in page.files({"kinds": {"damaged": tally.report()}})
