"""video.clip picks the frames that are on screen: videos whose pictures say which frame they are."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from videos import CORNERS, corners, decode_everything, on_screen, read_indices, write_video

from reelkind.core.timing.clips import segment_middles
from reelkind.video import clip as video
from reelkind.video import seeking
from reelkind.video.container import extent, open_file

VP9 = {"codec": "libvpx-vp9", "codec_options": {"cpu-used": "8", "deadline": "realtime"}}


def expected(path: Path, num_frames: int = 16) -> list[int]:
    """Oracle: decode everything in order, then look up what is on screen at each middle."""
    timestamps, shown, _ = decode_everything(path)
    with open_file(path) as container:
        start, duration = extent(path, container, container.streams.video[0])
    return [shown[on_screen(timestamps, instant)] for instant in segment_middles(start, duration, num_frames)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Timestamps of every picture that comes out of the decoder."""
    seen: list[int] = []
    decode = seeking._decode

    def counted(*args, **options) -> Iterator[seeking.Picture]:
        for picture in decode(*args, **options):
            seen.append(picture.pts)
            yield picture

    monkeypatch.setattr(seeking, "_decode", counted)
    return seen


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.mp4", {}, id="mp4"),
        pytest.param("a.mov", {"codec": "prores_ks", "pixel_format": "yuv422p10le"}, id="mov-prores"),
        pytest.param("a.mkv", {}, id="mkv"),
        pytest.param("a.webm", VP9, id="webm"),
        pytest.param("a.avi", {"codec": "mpeg4"}, id="avi"),
        pytest.param("a.ts", {}, id="mpegts"),
        pytest.param("a.flv", {}, id="flv"),
        pytest.param("a.gif", {"codec": "gif", "pixel_format": "rgb8"}, id="gif"),
        pytest.param("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, id="fragmented-mp4"),
        pytest.param("a.mp4", {"codec": "libx265", "b_frames": 2}, id="hevc"),
        pytest.param("a.mp4", {"pixel_format": "yuv444p"}, id="yuv444p"),
        pytest.param("a.mp4", {"pixel_format": "yuv420p10le"}, id="10-bit"),
        pytest.param("a.mkv", {"codec": "ffv1", "pixel_format": "gray"}, id="gray"),
        pytest.param("a.mkv", {"codec": "libx264rgb", "pixel_format": "rgb24"}, id="rgb"),
        pytest.param("a.mp4", {"size_px": (161, 97), "pixel_format": "yuv444p"}, id="odd-size"),
        pytest.param("a.mp4", {"b_frames": 3}, id="b-frames"),
        pytest.param("a.ts", {"b_frames": 3}, id="b-frames-mpegts"),
        pytest.param("a.mp4", {"num_frames": 1}, id="one-frame"),
        pytest.param("a.mp4", {"num_frames": 3}, id="three-frames"),
        pytest.param("a.mp4", {"audio_s": 9}, id="sound-outlasts-mp4"),
        pytest.param("a.mkv", {"audio_s": 9}, id="sound-outlasts-mkv"),
        pytest.param("a.webm", {"audio_s": 9, **VP9}, id="sound-outlasts-webm"),
    ],
)
def test_the_frame_on_screen_is_chosen(tmp_path: Path, name: str, options: dict) -> None:
    path = write_video(tmp_path / name, **options)
    assert read_indices(video.read_clip(path).frames) == expected(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_variable_frame_rate_goes_by_time_not_by_count(tmp_path: Path, name: str) -> None:
    times = [0, 40, 80, 120, 4000, 4040, 4080, 9000, 9040, 9080, 10000]  # the fourth frame stays for four seconds
    path = write_video(tmp_path / name, pts_ms=times)
    clip = video.read_clip(path, num_frames=10)
    wanted = [on_screen(times, middle) for middle in segment_middles(0, 10_000, 10)]
    assert read_indices(clip.frames) == wanted == [3, 3, 3, 3, 6, 6, 6, 6, 6, 9]
    assert clip.times_ms.tolist() == [times[index] for index in wanted]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_video_may_start_at_any_time(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, pts_ms=[20_000 + 40 * i for i in range(50)])
    clip = video.read_clip(path, num_frames=5)
    assert read_indices(clip.frames) == expected(path, 5)
    assert clip.times_ms[0] in (160, 200)  # counted from the video's own start
    assert clip.duration_s == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("b_frames", [0, 3])
def test_a_raw_stream_without_timestamps_is_read_whole(tmp_path: Path, b_frames: int) -> None:
    path = write_video(tmp_path / "a.h264", 50, container="h264", b_frames=b_frames)
    clip = video.read_clip(path, num_frames=10)
    assert read_indices(clip.frames) == segment_middles(0, 50, 10)


SEEKING = {
    "mp4": ("a.mp4", {}),
    "mp4-b-frames": ("a.mp4", {"b_frames": 3}),
    "mp4-open-gop": ("a.mp4", {"b_frames": 3, "codec_options": {"x264-params": "open-gop=1"}}),
    "mkv": ("a.mkv", {"b_frames": 3}),
    "avi": ("a.avi", {"codec": "mpeg4"}),
    "fragmented": ("a.mp4", {"b_frames": 3, "container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "mpegts": ("a.ts", {"b_frames": 3, "fps": 1, "gop": 3}),  # no index: only jumps of more than ten seconds pay
}


@pytest.mark.parametrize(("name", "options"), SEEKING.values(), ids=SEEKING.keys())
def test_seeking_and_reading_through_give_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: list[int], name: str, options: dict
) -> None:
    path = write_video(tmp_path / name, 400, **{"gop": 8, **options})
    sought = video.read_clip(path)
    num_sought = len(decoded)
    decoded.clear()
    monkeypatch.setattr(seeking._Seeker, "worthwhile", lambda *_: False)
    read_through = video.read_clip(path)
    assert np.array_equal(sought.frames, read_through.frames)
    assert np.array_equal(sought.times_ms, read_through.times_ms)
    assert read_indices(sought.frames) == expected(path)
    assert num_sought <= 0.7 * min(len(decoded), 400)


def keyframes_expected(path: Path, num_frames: int, gop: int) -> tuple[list[int], int]:
    """Oracle of videos whose key frames come every ``gop`` frames: which frames are shown, how many stand in."""
    timestamps, shown, _ = decode_everything(path)
    with open_file(path) as container:
        start, duration = extent(path, container, container.streams.video[0])
    found: list[int] = []
    num_stand_ins = 0
    for instant in segment_middles(start, duration, num_frames):
        on = shown[on_screen(timestamps, instant)]
        keyframe = on - on % gop
        before = instant - timestamps[shown.index(keyframe)]
        in_reach = 6 * before <= duration
        found.append(keyframe if in_reach else on)
        num_stand_ins += in_reach and before > 0
    return found, num_stand_ins


@pytest.mark.parametrize("gop", [8, 40, 100, 400])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_key_frames_stand_in_for_what_comes_soon_after(tmp_path: Path, decoded: list[int], name: str, gop: int) -> None:
    path = write_video(tmp_path / name, 400, gop=gop, b_frames=0)
    clip = video.read_clip(path, seek="keyframes")
    wanted, num_stand_ins = keyframes_expected(path, 16, gop)
    assert read_indices(clip.frames) == wanted
    assert clip.num_stand_ins == num_stand_ins > 0
    assert (np.diff(clip.times_ms) >= 0).all()
    assert len(set(wanted)) > 1
    if gop <= 400 / 6:  # each instant has a key frame in reach: nothing else is decoded
        assert len(decoded) == len(set(wanted)) + (wanted[0] > 0)


@pytest.mark.parametrize(("name", "options"), SEEKING.values(), ids=SEEKING.keys())
def test_what_stands_in_is_never_later_than_its_instant(tmp_path: Path, name: str, options: dict) -> None:
    path = write_video(tmp_path / name, 400, **{"gop": 8, **options})
    exact, clip = video.read_clip(path), video.read_clip(path, seek="keyframes")
    assert (clip.times_ms <= exact.times_ms).all()
    assert (np.diff(clip.times_ms) >= 0).all()
    assert 0 < clip.num_stand_ins <= 16


def test_auto_is_exact_until_so_many_pixels_were_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", 400, gop=20)
    exact, keyframes = (video.read_clip(path, seek=seek) for seek in ("exact", "keyframes"))
    auto = video.read_clip(path, seek="auto")
    assert np.array_equal(auto.frames, exact.frames)
    assert auto.num_stand_ins == 0
    width, height = 160, 96
    monkeypatch.setitem(video.SEEKS, "auto", 100.0 * width * height)
    both = video.read_clip(path, seek="auto")
    assert 0 < both.num_stand_ins < keyframes.num_stand_ins
    assert np.array_equal(both.times_ms[:4], exact.times_ms[:4])
    assert np.array_equal(both.times_ms[-4:], keyframes.times_ms[-4:])


@pytest.mark.parametrize("gop", [3, 400])
def test_a_recording_that_was_never_finished_is_read(tmp_path: Path, decoded: list[int], gop: int) -> None:
    with Unseekable(tmp_path / "a.mkv") as file:  # neither duration nor index, as from a browser's recorder
        write_video(file, 400, fps=1, gop=gop, container="matroska")
    clip = video.read_clip(tmp_path / "a.mkv")
    assert clip.duration_s == 0.0
    assert read_indices(clip.frames) == segment_middles(0, 400, 16)
    assert len(decoded) <= 2 * 400  # at worst a look ahead in vain, then everything once


class Unseekable:
    """A file that can only be written to."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def __enter__(self) -> "Unseekable":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def test_one_keyframe_means_no_seeking(tmp_path: Path, decoded: list[int]) -> None:
    path = write_video(tmp_path / "a.mp4", 200, gop=10_000)
    video.read_clip(path)
    assert decoded == sorted(set(decoded))
    assert len(decoded) >= 190


def test_frames_that_nothing_needs_are_not_decoded(tmp_path: Path, decoded: list[int]) -> None:
    path = write_video(tmp_path / "a.mp4", 200, gop=10_000, b_frames=3)
    clip = video.read_clip(path)
    assert read_indices(clip.frames) == expected(path)
    assert len(decoded) <= 120


def test_without_an_index_long_gops_are_read_through(tmp_path: Path, decoded: list[int]) -> None:
    path = write_video(tmp_path / "a.ts", 400, fps=1, gop=200)
    assert read_indices(video.read_clip(path).frames) == expected(path)


@pytest.mark.parametrize(
    ("degrees", "corner"),
    [(0, "top_left"), (90, "bottom_left"), (180, "bottom_right"), (270, "top_right")],
)
def test_rotation_is_applied(tmp_path: Path, degrees: int, corner: str) -> None:
    path = write_video(tmp_path / "a.mp4", 10, picture=corners)
    _rotate(path, degrees)
    frame = video.read_clip(path, num_frames=1, size_px=64).frames[0]
    # Turned clockwise for display, this corner of the stored picture becomes the upper left one.
    assert frame[8, 8].tolist() == pytest.approx(CORNERS[corner], abs=30)


def _rotate(path: Path, degrees: int) -> None:
    """Patch the display matrix of an mp4's track header: a phone held sideways writes nothing else."""
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = [cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix lies 40 bytes into the box
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def test_a_clip_says_what_it_is(tmp_path: Path) -> None:
    clip = video.read_clip(write_video(tmp_path / "a.mp4", 50, fps=25), num_frames=4, size_px=48)
    assert (clip.frames.shape, clip.frames.dtype) == ((4, 48, 48, 3), np.uint8)
    assert clip.times_ms.tolist() == [240, 720, 1240, 1720]
    assert clip.duration_s == 2.0


def test_the_whole_frame_is_seen_whatever_its_shape(tmp_path: Path) -> None:
    path = write_video(tmp_path / "wide.mp4", 5, size_px=(640, 64), picture=corners)
    frame = video.read_clip(path, num_frames=1, size_px=32).frames[0]
    assert frame[2, 2].tolist() == pytest.approx(CORNERS["top_left"], abs=30)
    assert frame[-2, -2].tolist() == pytest.approx(CORNERS["bottom_right"], abs=30)
