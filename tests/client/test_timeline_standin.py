"""Timelines against the stand-in server, whose classes are colours: red, green and blue; black is a tie of all."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
from http_standin import HttpStandin
from PIL import Image
from standin import StandinServer
from videos import write_video

from reelkind.client import (
    AsyncClient,
    Client,
    FeaturesError,
    InvalidOption,
    ProcessDecoder,
    Segment,
    ServerFailed,
    Timeline,
    VideoError,
    Window,
)
from reelkind.core.files import features_files as files
from reelkind.video.clip import Chunk

COLOURS = {"animation": (255, 0, 0), "gaming": (0, 255, 0), "natural": (0, 0, 255), "tie": (0, 0, 0)}
FPS = 5
RATE = 2.0  # frames a second
HOW = {"rate": RATE, "window_s": 2.0}  # four frames a window; one begins with each frame, every second one is told


def write_colours(path: Path, parts: Sequence[tuple[str, float]], **options) -> Path:
    """A video of colours, each for so many seconds."""
    shown = [COLOURS[label] for label, duration_s in parts for _ in range(round(duration_s * FPS))]

    def picture(index: int, width_px: int, height_px: int) -> np.ndarray:
        return np.broadcast_to(np.array(shown[index], np.uint8), (height_px, width_px, 3)).copy()

    return write_video(path, len(shown), fps=FPS, size_px=(64, 64), picture=picture, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def four_parts(folder: Path) -> Path:
    return write_colours(folder / "four.mp4", [("animation", 6), ("gaming", 5), ("natural", 4), ("gaming", 5.4)])


@pytest.fixture
def client(standin: StandinServer) -> Iterator[Client]:
    with Client(standin.url, retry_s=0) as client:
        yield client


def told(timeline: Timeline) -> list[tuple[int, int, str | None]]:
    return [(segment.start_ms, segment.end_ms, segment.label) for segment in timeline.segments]


def test_segments_are_where_the_colours_are(client: Client, four_parts: Path) -> None:
    timeline = client.timeline(four_parts, **HOW)
    assert told(timeline) == [
        (0, 6000, "animation"),
        (6000, 11000, "gaming"),
        (11000, 15000, "natural"),
        (15000, 20400, "gaming"),
    ]
    assert timeline.duration_ms == 20400
    assert timeline.error is None
    assert (timeline.label, timeline.mixed) == ("gaming", True)
    assert timeline.shares["gaming"] == pytest.approx(10.4 / 20.4)
    assert sum(timeline.shares.values()) == pytest.approx(1)
    assert sum(timeline.scores.values()) == pytest.approx(1)
    assert timeline.confidence == pytest.approx(timeline.scores["gaming"])
    assert [window.start_ms for window in timeline.windows] == [*range(0, 18001, 1000), 18500]
    assert timeline.windows[-1].end_ms == 20400
    assert timeline.windows[0].embedding.ndim == 1


def test_a_moment_of_another_class_is_a_segment_if_changes_are_cheap(client: Client, tmp_path: Path) -> None:
    path = write_colours(tmp_path / "moment.mp4", [("animation", 6), ("gaming", 2), ("animation", 6)])
    cheap, dear = (client.timeline(path, **HOW, switch_penalty=penalty) for penalty in (0, 100))
    assert [segment.label for segment in cheap.segments] == ["animation", "gaming", "animation"]
    assert told(dear) == [(0, 14000, "animation")]
    assert [window.scores for window in dear.windows] == [window.scores for window in cheap.windows]


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_penalties_and_windows_that_cannot_be_are_refused(client: Client, four_parts: Path, value: float) -> None:
    with pytest.raises(InvalidOption, match="switch_penalty must be a number of nats, 0 or more, got"):
        client.timeline(four_parts, switch_penalty=value)
    with pytest.raises(InvalidOption, match="window_s must be a number of seconds above 0, got"):
        client.timeline(four_parts, window_s=value)


def test_events_come_in_order_and_the_timeline_last(client: Client, four_parts: Path) -> None:
    events = list(client.stream_timeline(four_parts, **HOW))
    timeline = events[-1]
    assert isinstance(timeline, Timeline)
    assert [event for event in events if isinstance(event, Window)] == list(timeline.windows)
    assert [event for event in events if isinstance(event, Segment)] == list(timeline.segments)
    first_segment = next(i for i, event in enumerate(events) if isinstance(event, Segment))
    assert sum(isinstance(event, Window) for event in events[first_segment:]) > 5, "told before the video ends"


def test_a_frame_is_sent_once_and_windows_in_batches(client: Client, standin: StandinServer, four_parts: Path) -> None:
    client.timeline(four_parts, **HOW)
    asked = list(zip(standin.asked, standin.requests, strict=True))
    frames = [shape[1] for model, shape in asked if model == "features"]
    windows = [shape[0] for model, shape in asked if model == "classify_features"]
    assert sum(frames) == 41
    assert sum(windows) == 38
    assert max(windows) > 1


def test_a_picture_that_stays_on_screen_is_sent_once(client: Client, standin: StandinServer, tmp_path: Path) -> None:
    shown = [COLOURS[label] for label in ("animation", "natural", "gaming")]

    def picture(index: int, width_px: int, height_px: int) -> np.ndarray:
        return np.broadcast_to(np.array(shown[index], np.uint8), (height_px, width_px, 3)).copy()

    path = write_video(tmp_path / "slides.mp4", pts_ms=[0, 3000, 6000], size_px=(64, 64), picture=picture)
    features = client.extract_features(path, rate=RATE)
    sent = [shape[1] for model, shape in zip(standin.asked, standin.requests, strict=True) if model == "features"]
    assert sum(sent) == 2, "the third is shown for a moment, between two instants"
    assert np.argmax(features.arrays["lite"][0], axis=-1).tolist() == [0] * 6 + [2] * 6


@pytest.mark.parametrize(
    ("duration_s", "how", "windows"),
    [
        pytest.param(0.2, HOW, [(0, 200)], id="one-frame"),
        pytest.param(1.2, HOW, [(0, 1200)], id="shorter-than-a-window"),
        pytest.param(2, HOW, [(0, 2000)], id="one-window"),
        pytest.param(2.6, HOW, [(0, 2000), (500, 2600)], id="a-little-more"),
        pytest.param(4.6, {}, [(0, 2000), (1000, 3000), (2000, 4000), (2500, 4600)], id="defaults"),
        pytest.param(10, {"window_s": 8}, [(0, 8000), (2000, 10000)], id="longer-windows"),
        pytest.param(20, {"rate": 0.2}, [(0, 20000)], id="four-frames-if-there-are-so-few-a-second"),
    ],
)
def test_short_videos_have_the_windows_they_can_have(
    client: Client, tmp_path: Path, duration_s: float, how: dict[str, float], windows: list[tuple[int, int]]
) -> None:
    timeline = client.timeline(write_colours(tmp_path / "a.mp4", [("natural", duration_s)]), **how)
    assert [(window.start_ms, window.end_ms) for window in timeline.windows] == windows
    assert told(timeline) == [(0, windows[-1][1], "natural")]
    assert not timeline.mixed


def test_a_still_picture_has_a_timeline(client: Client, tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64, 3), COLOURS["gaming"], np.uint8)).save(tmp_path / "still.png")
    timeline = client.timeline(tmp_path / "still.png")
    assert timeline.label == "gaming"
    assert len(timeline.windows) == 1


def test_a_file_that_is_cut_off_has_the_timeline_of_what_there_is(client: Client, tmp_path: Path) -> None:
    whole = write_colours(
        tmp_path / "whole.mp4",
        [("animation", 10), ("natural", 30)],
        container_options={"movflags": "faststart"},
        codec_options={"crf": "0"},
        keyframes=range(200),
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    timeline = client.timeline(cut, **HOW)
    assert timeline.error is not None
    assert "cut off: pictures end after" in timeline.error.reason
    assert told(timeline)[0] == (0, 10000, "animation")
    assert timeline.segments[-1].end_ms == timeline.duration_ms < 30_000
    assert timeline.to_dict()["error"] == timeline.error.reason


def test_what_is_no_video_is_an_error(client: Client, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match="not a readable video"):
        client.timeline(tmp_path / "text.mp4")
    with pytest.raises(InvalidOption, match="rate must be from"):
        client.timeline(tmp_path / "text.mp4", rate=0)


def test_a_decoder_that_dies_on_the_way_leaves_a_partial_timeline(
    standin: StandinServer, four_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client import reader_doubles
    from reelkind.video import decoding

    monkeypatch.setattr(decoding, "read_stream", reader_doubles.crash_in_a_stream)
    with ProcessDecoder(1) as decoder, Client(standin.url, decoder=decoder) as client:
        timeline = client.timeline(four_parts, **HOW)
    assert timeline.error is not None
    assert "crashed" in timeline.error.reason
    assert timeline.duration_ms == 8000, "one chunk of sixteen frames"


def test_a_server_that_fails_ends_the_timeline(client: Client, standin: StandinServer, four_parts: Path) -> None:
    client.timeline(four_parts)
    standin.failures.append((grpc.StatusCode.INTERNAL, "broken"))
    with pytest.raises(ServerFailed, match="broken"):
        client.timeline(four_parts, **HOW)
    assert told(client.timeline(four_parts, **HOW)), "and the client is fit for the next"


def test_what_is_not_likely_enough_has_no_label(standin: StandinServer, tmp_path: Path) -> None:
    path = write_colours(tmp_path / "a.mp4", [("animation", 6), ("tie", 5), ("gaming", 5)])
    with Client(standin.url, abstain=0.6) as client:
        timeline = client.timeline(path, **HOW)
    assert told(timeline) == [(0, 6000, "animation"), (6000, 11000, None), (11000, 16000, "gaming")]
    assert sum(timeline.shares.values()) == pytest.approx(11 / 16)
    assert timeline.windows[7].label is None


class CountingDecoder:
    """Says how far it was read; its chunks are black."""

    num_workers = 1
    seek = "exact"

    def __init__(self, num_chunks: int) -> None:
        self.num_chunks, self.num_read = num_chunks, 0

    def decode(self, path, *, num_frames, size_px):
        raise NotImplementedError

    def stream(self, path, *, rate, size_px):
        for i in range(self.num_chunks):
            self.num_read += 1
            black = np.zeros((16, size_px, size_px, 3), np.uint8)
            times_ms = np.arange(16 * i, 16 * i + 16) * 500
            yield Chunk(black, times_ms, (i + 1) * 8000, 8000 * self.num_chunks, i == self.num_chunks - 1)

    def close(self) -> None:
        """Nothing is held."""


def test_a_few_requests_are_under_way_while_decoding_goes_on(standin: StandinServer, tmp_path: Path) -> None:
    decoder = CountingDecoder(20)
    with Client(standin.url, decoder=decoder) as client:
        standin.hold.clear()
        result: list[Timeline] = []
        thread = threading.Thread(target=lambda: result.append(client.timeline("a.mp4", **HOW)))
        thread.start()
        deadline = time.monotonic() + 60
        while standin.most_at_once < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert decoder.num_read == standin.most_at_once == 4, "no further than its chunks are taken"
        standin.hold.set()
        thread.join()
    assert decoder.num_read == 20
    assert result[0].duration_ms == 160_000


def test_giving_up_in_the_middle_leaves_nothing_running(standin: StandinServer) -> None:
    decoder = CountingDecoder(1000)
    with Client(standin.url, decoder=decoder) as client:
        events = client.stream_timeline("a.mp4", **HOW)
        for _ in range(3):
            next(events)
        events.close()
        read = decoder.num_read
        assert read < 20
        time.sleep(0.2)
        assert decoder.num_read == read


def test_progress_is_told_in_milliseconds(client: Client, four_parts: Path) -> None:
    seen: list[tuple[int, int]] = []
    list(client.stream_timeline(four_parts, **HOW, progress=lambda *at: seen.append(at)))
    assert seen == [(8000, 20400), (16000, 20400), (20400, 20400)]


def test_the_asyncio_client_tells_the_same(standin: StandinServer, client: Client, four_parts: Path) -> None:
    async def ask() -> tuple[Timeline, int, Timeline]:
        async with AsyncClient(standin.url) as asking:
            events = [event async for event in asking.stream_timeline(four_parts, **HOW)]
            other = await asking.timeline(four_parts, **HOW)
        assert isinstance(events[-1], Timeline)
        return events[-1], len(events), other

    expected = client.timeline(four_parts, **HOW)
    found, num_events, other = asyncio.run(ask())
    assert told(found) == told(other) == told(expected)
    assert num_events == len(expected.windows) + len(expected.segments) + 1
    assert found.scores == expected.scores


def test_http_tells_the_same(http_standin: HttpStandin, client: Client, four_parts: Path) -> None:
    async def ask() -> Timeline:
        async with AsyncClient(http_standin.url) as asking:
            return await asking.timeline(four_parts, **HOW)

    expected = client.timeline(four_parts, **HOW)
    with Client(http_standin.url) as asking:
        for found in (asking.timeline(four_parts, **HOW), asyncio.run(ask())):
            assert told(found) == told(expected)
            assert found.scores == pytest.approx(dict(expected.scores), abs=1e-6)


def test_an_asyncio_timeline_can_be_cancelled_while_it_decodes(standin: StandinServer) -> None:
    class Slow(CountingDecoder):
        def stream(self, path, *, rate, size_px):
            for chunk in super().stream(path, rate=rate, size_px=size_px):
                time.sleep(0.3)
                yield chunk

    async def ask() -> None:
        async with AsyncClient(standin.url, decoder=Slow(1000)) as client:
            task = asyncio.create_task(client.timeline("a.mp4", **HOW))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(ask())


def test_a_timeline_from_features_is_the_same_without_the_video(
    client: Client, standin: StandinServer, four_parts: Path, tmp_path: Path
) -> None:
    expected = client.timeline(four_parts, **HOW)
    path = tmp_path / f"four{files.SUFFIX}"
    features = client.extract_features(four_parts, rate=RATE)
    assert features.recipe == client.features_recipe(rate=RATE)
    files.save(features, path)
    standin.asked.clear()
    found = client.timeline(path, window_s=HOW["window_s"])
    assert set(standin.asked) == {"classify_features"}
    assert told(found) == told(expected)
    assert found.scores == expected.scores
    assert [window.scores for window in found.windows] == [window.scores for window in expected.windows]


def test_features_and_what_wants_them_must_fit(client: Client, four_parts: Path, tmp_path: Path) -> None:
    clip, stream = tmp_path / f"clip{files.SUFFIX}", tmp_path / f"stream{files.SUFFIX}"
    files.save(client.extract_features(four_parts), clip)
    files.save(client.extract_features(four_parts, rate=RATE), stream)
    assert client.classify(clip).label == client.classify(four_parts).label
    with pytest.raises(FeaturesError, match="features of a clip, needed are those of a stream: extract again"):
        client.timeline(clip)
    with pytest.raises(FeaturesError, match="features of a stream, needed are those of a clip"):
        client.classify(stream)
    with pytest.raises(FeaturesError, match=r"made with rate 2\.0, needed is 5\.0"):
        client.timeline(stream, rate=5)


def test_features_of_a_file_that_is_cut_off_are_not_made(client: Client, tmp_path: Path) -> None:
    whole = write_colours(tmp_path / "a.mp4", [("gaming", 40)], container_options={"movflags": "faststart"})
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    with pytest.raises(VideoError, match="cut off"):
        client.extract_features(whole, rate=RATE)


def test_weights_that_change_in_the_midst_are_noticed(
    client: Client, standin: StandinServer, four_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reelkind.client import ContractMismatch, connection

    monkeypatch.setattr(connection, "INFO_AGE_S", 0)
    events = client.stream_timeline(four_parts, **HOW)
    next(events)
    standin.parameters["weights"] = "1" * 64
    with pytest.raises(ContractMismatch, match="were changed in the midst of the work: try again"):
        list(events)
