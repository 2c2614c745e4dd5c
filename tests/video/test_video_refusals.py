"""video.clip refuses what is no video, with the file and the reason, and takes every file name."""

import io
import os
import pickle
import re
import struct
import zlib
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import bars, read_indices, write_video

from reelkind.core.errors import ReelkindError
from reelkind.video import clip as video
from reelkind.video import container as containers
from reelkind.video.clip import VideoError


def refusal(path: str | os.PathLike[str]) -> str:
    with pytest.raises(VideoError) as caught:
        video.read_clip(path, num_frames=4, size_px=32)
    assert str(caught.value) == f"{os.fspath(path)}: {caught.value.reason}"
    assert isinstance(caught.value, ReelkindError)
    return caught.value.reason


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nope.mp4") == "no such file"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "is a folder, not a video file"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    assert refusal(tmp_path / "a.mp4") == "the file is empty (0 bytes)"


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    assert refusal(tmp_path / "a.mp4").startswith("is a pipe")


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b.mp4"], ids=["too-long", "null-byte"])
def test_impossible_names_are_refused(path: str) -> None:
    assert refusal(path).startswith("cannot be opened")


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a"])
def test_text_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hello world\n" * 100)
    assert "not a" in refusal(tmp_path / name)


def test_noise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    assert refusal(tmp_path / "a.mp4").startswith("not a readable video")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.ts\n#EXT-X-ENDLIST\n"),
        ("a.txt", "ffconcat version 1.0\nfile other.ts\n"),
    ],
)
def test_a_playlist_does_not_open_other_files(tmp_path: Path, name: str, text: str) -> None:
    write_video(tmp_path / "other.ts", 10)
    (tmp_path / name).write_text(text)
    assert refusal(tmp_path / name).startswith("not a video but a playlist")


@pytest.mark.parametrize("head", ["ffconcat version 1.0\n", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"])
def test_a_playlist_opens_nothing_it_names(tmp_path: Path, head: str) -> None:
    os.mkfifo(tmp_path / "waits.ts")  # whoever opens it waits for a writer that never comes
    (tmp_path / "list.mp4").write_text(f"{head}file waits.ts\nwaits.ts\n")
    assert refusal(tmp_path / "list.mp4") == "not a video but a playlist or manifest: name the files it lists"


def test_every_demuxer_is_known_to_ffmpeg() -> None:
    assert set(containers._DEMUXERS.split()) <= set(av.formats_available)


@pytest.mark.parametrize(
    ("name", "kept"), [("a.wmv", 60), ("a.mkv", 40), ("a.mkv", 70), ("a.mkv", 600), ("a.mp4", 2000), ("a.ts", 240)]
)
def test_what_is_cut_off_is_called_damaged_and_not_forbidden(tmp_path: Path, name: str, kept: int) -> None:
    write_video(tmp_path / name, 30)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    assert re.fullmatch(
        "(not a readable video: )?damaged(,| or) cut off(, or of another kind)?", refusal(tmp_path / name)
    )


def test_a_stream_that_begins_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.flv", 200, fps=1)  # longer than FFmpeg looks for streams
    data = path.read_bytes()
    at = int.from_bytes(data[5:9], "big") + 4
    while at < len(data) // 2:  # tags are type, length of three bytes, time, stream, data, length
        at += int.from_bytes(data[at + 1 : at + 4], "big") + 15
    sound = b"\x2e" + bytes(64)  # MP3 of 44.1 kHz
    tag = b"\x08" + len(sound).to_bytes(3, "big") + bytes(7) + sound + (11 + len(sound)).to_bytes(4, "big")
    path.write_bytes(data[:at] + tag * 3 + data[at:])
    assert read_indices(video.read_clip(path, num_frames=100).frames) == [*range(1, 200, 2)]


def test_an_animated_webp_is_said_to_be_one(tmp_path: Path) -> None:
    first, *rest = (Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 80, 160))
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest)
    assert refusal(tmp_path / "a.webp") == "animated WebP is not supported: convert it to GIF or MP4"
    first.save(tmp_path / "still.webp")
    assert video.read_clip(tmp_path / "still.webp", num_frames=2, size_px=32).frames.shape == (2, 32, 32, 3)


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(os.fspath(tmp_path / "a.m4a"), "w") as output:
        _add_sound(output)
    assert refusal(tmp_path / "a.m4a") == "no video stream (found: audio)"


def test_a_cover_image_is_no_video(tmp_path: Path) -> None:
    with av.open(os.fspath(tmp_path / "plain.m4a"), "w") as output:
        _add_sound(output)
    Image.fromarray(bars(1, 32, 32)).save(tmp_path / "cover.png")
    _attach_cover(tmp_path / "plain.m4a", tmp_path / "cover.png")
    with av.open(os.fspath(tmp_path / "plain.m4a")) as container:
        assert [stream.type for stream in container.streams] == ["audio", "video"]
    assert refusal(tmp_path / "plain.m4a") == "no video stream (found: audio, video)"


def _add_sound(output: av.container.OutputContainer) -> None:
    stream = output.add_stream("aac", rate=48000)
    for start in range(0, 20_000, 1000):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2000), np.float32), format="flt", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def _attach_cover(path: Path, cover: Path) -> None:
    """Append iTunes metadata with a cover to an m4a whose moov box lies last."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    image = box(b"covr", box(b"data", struct.pack(">II", 14, 0) + cover.read_bytes()))
    handler = box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"moov") - 4
    old_udta = data.find(b"udta", at)
    if old_udta > 0:  # FFmpeg reads the first one only
        data[old_udta : old_udta + 4] = b"free"
    udta = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", image)))
    size = struct.unpack(">I", data[at : at + 4])[0]
    data[at : at + 4] = struct.pack(">I", size + len(udta))
    path.write_bytes(bytes(data[: at + size]) + udta + bytes(data[at + size :]))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.93])
def test_an_mp4_without_its_index_is_refused(tmp_path: Path, share: float) -> None:
    assert "cut off" in refusal(_cut(write_video(tmp_path / "a.mp4", 250), share))


@pytest.mark.parametrize("share", [0.2, 0.6])
@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {"container_options": {"movflags": "faststart"}}), ("a.mkv", {})]
)
def test_a_cut_off_file_is_refused(tmp_path: Path, name: str, options: dict, share: float) -> None:
    assert refusal(_cut(write_video(tmp_path / name, 250, **options), share)).startswith("cut off: pictures end after")


def test_a_few_missing_frames_are_forgiven(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 250, container_options={"movflags": "faststart"})
    assert read_indices(video.read_clip(_cut(path, 0.98)).frames)[-1] == 241


def _cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def test_damage_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 500, gop=25, container_options={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    third, half = len(data) // 3, len(data) // 2
    data[third:half] = np.random.default_rng(0).bytes(half - third)
    path.write_bytes(data)
    shown = read_indices(video.read_clip(path, num_frames=10).frames)
    assert (shown[0], shown[-1]) == (25, 475)


@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (60_000, 60_000)])
def test_pictures_beyond_any_camera_are_refused_by_their_header(tmp_path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )
    (tmp_path / "a.png").write_bytes(png)
    refusal(tmp_path / "a.png")


def test_packets_larger_than_their_header_says_are_refused(tmp_path: Path) -> None:
    def picture(width: int, height: int) -> bytes:
        buffer = io.BytesIO()
        Image.new("1", (width, height)).save(buffer, "png")
        return buffer.getvalue()

    with av.open(os.fspath(tmp_path / "a.mov"), "w") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "monob"
        list(map(output.mux, stream.encode(av.VideoFrame(96, 64, "monob"))))
        for number in range(1, 4):
            packet = av.Packet(picture(9000, 9000))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            output.mux(packet)
    with containers.open_file(tmp_path / "a.mov") as container:
        assert container.streams.video[0].width == 96
    assert refusal(tmp_path / "a.mov") == "frames of 9000x9000 exceed 67108864 pixels"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "img001.jpg", "100%d.png", "%03d.jpg"])
def test_a_still_picture_is_a_clip_of_repeats(tmp_path: Path, name: str) -> None:
    Image.fromarray(bars(5, 160, 96)).save(tmp_path / name)
    clip = video.read_clip(tmp_path / name, num_frames=3)
    assert read_indices(clip.frames) == [5, 5, 5]
    assert clip.times_ms.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "http:a.mp4", "-a.mp4", "%03d.mp4", "ü 字.mp4", "new\nline.mp4", "\udcff.mp4"]
)
def test_any_file_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_video(tmp_path / "a.mp4", 10).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert read_indices(video.read_clip(name, num_frames=2).frames) == [2, 7]


def test_a_refusal_crosses_processes() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(VideoError, match=r"nope\.mp4: no such file") as caught,
    ):
        pool.submit(video.read_clip, "nope.mp4").result()
    assert (caught.value.path, caught.value.reason) == ("nope.mp4", "no such file")
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
