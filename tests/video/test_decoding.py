"""Decoding in processes: what a bad file costs, and that it costs only itself."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from videos import read_indices, write_video

from client import reader_doubles
from reelkind.client import InlineDecoder, InvalidOption, ProcessDecoder, VideoError
from reelkind.core.limits import Limits
from reelkind.core.timing.clips import segment_middles
from reelkind.video import decoding, worker_main
from reelkind.video import worker as _worker
from reelkind.video.clip import read_clip, read_stream


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a.mp4", 50)


@pytest.fixture(scope="module")
def decoder() -> Iterator[ProcessDecoder]:
    """One worker, so that every test after a killed one needs its replacement."""
    with ProcessDecoder(1, memory_bytes=1 << 30) as decoder:
        yield decoder


def test_frames_come_back_from_a_worker_unchanged(decoder: ProcessDecoder, clip_path: Path) -> None:
    decoded = decoder.decode(clip_path, num_frames=5, size_px=64)
    expected = read_clip(clip_path, num_frames=5, size_px=64)
    assert np.array_equal(decoded.clip.frames, expected.frames)
    assert read_indices(decoded.clip.frames) == segment_middles(0, 50, 5)
    assert decoded.clip.duration_s == expected.duration_s
    assert decoded.decode_ms > 0


def test_a_bad_file_keeps_its_sentence(decoder: ProcessDecoder) -> None:
    with pytest.raises(VideoError, match=r"^nope\.mp4: no such file$"):
        decoder.decode("nope.mp4", num_frames=4, size_px=32)


@pytest.mark.parametrize(
    ("double", "message"),
    [
        (reader_doubles.hang, "decoding took longer than 2 s and was given up"),
        (reader_doubles.crash, r"its decoder crashed \(Segmentation fault\)"),
        (reader_doubles.run_out_of_memory, "its decoder was killed, probably for want of memory"),
        (reader_doubles.hoard, "decoding needs more than the 1024 MiB of memory it is allowed"),
        (reader_doubles.spin, "its decoder took more processor time than it is allowed"),
        (reader_doubles.write, r"cannot be decoded \(OSError: .*File too large"),
        (reader_doubles.leave, "its decoder ended unexpectedly with exit code 3"),
        (reader_doubles.stumble, r"cannot be decoded \(KeyError: 'bug'\)"),
    ],
    ids=["hang", "segfault", "oom", "memory", "processor", "files", "exit", "bug"],
)
def test_a_file_that_breaks_its_decoder_costs_only_itself(
    decoder: ProcessDecoder, monkeypatch: pytest.MonkeyPatch, clip_path: Path, tmp_path: Path, double, message: str
) -> None:
    monkeypatch.chdir(tmp_path)  # where a double leaves an empty file
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_clip", double)
        if double is reader_doubles.hang:
            patch.setattr(decoder, "_timeout_s", 2)
        if double is reader_doubles.spin:
            patch.setattr(decoder, "_limits", Limits(cpu_s=0.5))
            made_with_other_limits = decoder._free.pop()
            decoder._workers.remove(made_with_other_limits)
            made_with_other_limits.kill()
        with pytest.raises(VideoError, match=f"^bad.mp4: {message}"):
            decoder.decode("bad.mp4", num_frames=4, size_px=32)
    assert decoder.decode(clip_path, num_frames=4, size_px=32).clip.frames.shape == (4, 32, 32, 3)


def test_limits_too_tight_for_any_video_are_refused() -> None:
    with pytest.raises(InvalidOption, match="memory_bytes must be at least 1073741824, got 1000"):
        ProcessDecoder(1, memory_bytes=1000)


def test_who_is_interrupted_leaves_no_answer_for_the_next_file(
    decoder: ProcessDecoder, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = _worker.Worker.ask

    def interrupted(worker: _worker.Worker, job: worker_main.Job, timeout_s: float) -> Any:
        worker._connection.send(job)  # under way, when Ctrl-C comes
        raise KeyboardInterrupt

    expected = decoder.decode(clip_path, num_frames=3, size_px=8).clip.frames
    monkeypatch.setattr(_worker.Worker, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decoder.decode(clip_path, num_frames=5, size_px=8)
    monkeypatch.setattr(_worker.Worker, "ask", ask)
    for _ in range(2):
        np.testing.assert_array_equal(decoder.decode(clip_path, num_frames=3, size_px=8).clip.frames, expected)


def test_a_worker_that_dies_while_idle_is_replaced_unnoticed(decoder: ProcessDecoder, clip_path: Path) -> None:
    (worker,) = decoder._workers
    worker.kill()
    decoder.decode(clip_path, num_frames=4, size_px=32)


def test_a_worker_that_never_starts_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker, "_PROGRAM", "import time; time.sleep(3600)")
    monkeypatch.setattr(_worker, "START_TIMEOUT_S", 0.1)
    with ProcessDecoder(1) as decoder, pytest.raises(VideoError, match="no decoder process could be started"):
        decoder.decode("a.mp4", num_frames=4, size_px=32)


def test_a_worker_that_cannot_be_replaced_yet_is_replaced_later(
    decoder: ProcessDecoder, monkeypatch: pytest.MonkeyPatch, clip_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    (worker,) = decoder._workers
    worker.kill()
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "Worker", refuse)
        for _ in range(2):
            with pytest.raises(VideoError, match=r"started \(Resource temporarily unavailable\)$"):
                decoder.decode(clip_path, num_frames=4, size_px=32)
    decoder.decode(clip_path, num_frames=4, size_px=32)


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_script_needs_no_guard_and_runs_once(clip_path: Path, tmp_path: Path, way: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from reelkind.client import ProcessDecoder\n"
        "print('begins')\n"
        "with ProcessDecoder(2) as decoder:\n"
        f"    print(decoder.decode({str(clip_path)!r}, num_frames=4, size_px=8).clip.frames.shape)\n"
    )
    command = [sys.executable, str(script)] if way == "file" else [sys.executable]
    with script.open() as source:
        done = subprocess.run(command, stdin=source, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == "begins\n(4, 8, 8, 3)\n"


def test_worker_ends_with_a_process_that_closed_nothing(clip_path: Path) -> None:
    script = (
        "import threading, time\n"
        "from client import reader_doubles\n"
        "from reelkind.video import decoding\n"
        "from reelkind.video.decoding import ProcessDecoder\n"
        "decoding.read_clip = reader_doubles.hang\n"
        "decoder = ProcessDecoder(1)\n"
        "wanted = {'num_frames': 4, 'size_px': 8}\n"
        "threading.Thread(target=decoder.decode, args=['a.mp4'], kwargs=wanted, daemon=True).start()\n"
        "(worker,) = decoder._workers\n"
        "while not worker._ready:\n"
        "    time.sleep(0.01)\n"
        "print(worker._process.pid)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_files_share_the_workers_there_are(clip_path: Path) -> None:
    with ProcessDecoder(2) as decoder, ThreadPoolExecutor(8) as pool:
        ask = partial(decoder.decode, num_frames=4, size_px=32)
        frames = [decoded.clip.frames for decoded in pool.map(ask, [clip_path] * 20)]
    assert all(np.array_equal(frames[0], other) for other in frames)


def test_closing_ends_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "read_clip", reader_doubles.hang)
    decoder = ProcessDecoder(1)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(decoder.decode, "a.mp4", num_frames=4, size_px=32)
        threading.Timer(1, decoder.close).start()
        with pytest.raises(VideoError, match="the decoder was closed"):
            future.result()
    with pytest.raises(VideoError, match="the decoder was closed"):
        decoder.decode("a.mp4", num_frames=4, size_px=32)
    assert time.monotonic() - started < 10


def test_a_decoder_needs_a_worker() -> None:
    with pytest.raises(InvalidOption, match="num_workers must be at least 1, got 0"):
        ProcessDecoder(0)


def test_the_inline_decoder_words_unforeseen_errors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "read_clip", reader_doubles.stumble)
    with pytest.raises(VideoError, match=r"a\.mp4: cannot be decoded \(KeyError: 'bug'\)"):
        InlineDecoder().decode("a.mp4", num_frames=4, size_px=32)


def test_a_stream_comes_back_from_a_worker_unchanged(decoder: ProcessDecoder, clip_path: Path) -> None:
    expected = list(read_stream(clip_path, rate=25, size_px=32))
    for found in (
        list(decoder.stream(clip_path, rate=25, size_px=32)),
        list(InlineDecoder().stream(clip_path, rate=25, size_px=32)),
    ):
        assert len(found) == len(expected) == 4
        for chunk, other in zip(found, expected, strict=True):
            assert np.array_equal(chunk.frames, other.frames)
            assert (chunk.position_ms, chunk.duration_ms, chunk.is_last) == (
                other.position_ms,
                other.duration_ms,
                other.is_last,
            )
    assert decoder.decode(clip_path, num_frames=4, size_px=32).clip.frames.shape == (4, 32, 32, 3), "and goes on"


def test_two_streams_can_be_read_by_turns_though_there_is_one_worker(clip_path: Path) -> None:
    with ProcessDecoder(1) as decoder:
        streams = [decoder.stream(clip_path, rate=25, size_px=32) for _ in range(2)]
        turns = list(zip(*streams, strict=True))
    assert all(np.array_equal(a.frames, b.frames) for a, b in turns)


def test_a_file_is_decoded_while_a_stream_has_the_only_worker(clip_path: Path) -> None:
    with ProcessDecoder(1) as decoder:
        for _ in decoder.stream(clip_path, rate=25, size_px=32):
            assert decoder.decode(clip_path, num_frames=4, size_px=32).clip.frames.shape == (4, 32, 32, 3)
        assert sum(worker.lives() for worker in decoder._workers) == 1, "the worker that was one more has ended"


def test_given_up_streams_leave_no_workers_behind(clip_path: Path) -> None:
    with ProcessDecoder(2) as decoder:
        for _ in range(4):
            streams = [decoder.stream(clip_path, rate=25, size_px=224) for _ in range(3)]
            for stream in streams:
                next(stream)
            for stream in streams:
                stream.close()
        assert decoder._workers == set()
        assert decoder.decode(clip_path, num_frames=4, size_px=32).clip.frames.shape == (4, 32, 32, 3)


def test_a_relative_path_is_meant_from_where_the_caller_is_now(
    clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, num_frames in (("one", 3), ("two", 9)):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "a.mp4", num_frames)
    monkeypatch.chdir(tmp_path / "one")
    with ProcessDecoder(1) as decoder:
        ask = partial(decoder.decode, num_frames=9, size_px=32)
        assert len(set(read_indices(ask("a.mp4").clip.frames))) == 3
        monkeypatch.chdir(tmp_path / "two")
        assert len(set(read_indices(ask("a.mp4").clip.frames))) == 9
        monkeypatch.chdir(tmp_path)
        with pytest.raises(VideoError, match=r"^a\.mp4: no such file"):
            ask("a.mp4")
        with pytest.raises(VideoError, match=r"^a\.mp4: no such file"):
            next(decoder.stream("a.mp4", rate=25, size_px=32))
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        with pytest.raises(VideoError, match=r"^a\.mp4: no such file: the current folder is gone"):
            ask("a.mp4")
        assert ask(clip_path).clip.frames.shape == (9, 32, 32, 3)


def test_a_stream_that_is_given_up_ends_its_worker_and_nothing_else(decoder: ProcessDecoder, clip_path: Path) -> None:
    stream = decoder.stream(clip_path, rate=25, size_px=224)
    next(stream)
    stream.close()
    assert not any(worker.lives() for worker in decoder._workers)
    assert decoder.decode(clip_path, num_frames=4, size_px=32).clip.frames.shape == (4, 32, 32, 3)


@pytest.mark.parametrize(
    ("double", "message"),
    [
        (reader_doubles.hang_in_a_stream, "decoding took longer than 2 s and was given up"),
        (reader_doubles.crash_in_a_stream, r"its decoder crashed \(Segmentation fault\)"),
        (reader_doubles.stumble, r"cannot be decoded \(KeyError: 'bug'\)"),
    ],
    ids=["hang", "segfault", "bug"],
)
def test_a_stream_that_breaks_its_decoder_keeps_what_came_before(
    decoder: ProcessDecoder, monkeypatch: pytest.MonkeyPatch, clip_path: Path, double, message: str
) -> None:
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "read_stream", double)
        if double is reader_doubles.hang_in_a_stream:
            patch.setattr(decoder, "_timeout_s", 2)
        with pytest.raises(VideoError, match=f"^{clip_path}: {message}"):
            found.extend(decoder.stream(clip_path, rate=25, size_px=32))
    assert len(found) == (0 if double is reader_doubles.stumble else 1)
    assert len(list(decoder.stream(clip_path, rate=25, size_px=32))) == 4


def test_a_decoder_reads_no_further_than_its_chunks_are_taken(tmp_path: Path) -> None:
    started = tmp_path / "started"
    with ProcessDecoder(1) as decoder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "read_stream", reader_doubles.count_chunks)
            stream = decoder.stream(started, rate=1, size_px=1)
            next(stream)
        time.sleep(0.5)
        made = len(list(started.parent.glob(f"{started.name}.*")))
        stream.close()
    assert made <= 3, "of a hundred: one taken, one in the connection, one waiting"


def test_a_closed_decoder_says_so_to_who_wants_a_stream(clip_path: Path) -> None:
    decoder = ProcessDecoder(1)
    decoder.close()
    with pytest.raises(VideoError, match="the decoder was closed"):
        next(decoder.stream(clip_path, rate=25, size_px=32))
