from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from videos import corners, decode_everything, write_video

from reelkind.core.errors import VideoError
from reelkind.evaluation.damages import DAMAGES, Damage, damaged_path, write_damaged
from reelkind.video.clip import read_clip
from reelkind.video.container import open_file

BY_NAME = {damage.name: damage for damage in DAMAGES}
MISSING = {damage.codec for damage in DAMAGES} - av.codec.codecs_available


def damaged(source: Path, name: str) -> Path:
    target = damaged_path(source.parent / "copies", source.stem, BY_NAME[name])
    if BY_NAME[name].codec in MISSING:
        pytest.skip(f"this FFmpeg has no {BY_NAME[name].codec}")
    write_damaged(source, BY_NAME[name], target)
    return target


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of bars that count frames."""
    return write_video(tmp_path_factory.mktemp("moving") / "moving.mp4", 25)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four coloured quadrants."""
    return write_video(tmp_path_factory.mktemp("coloured") / "coloured.mp4", 10, picture=corners)


def quadrants(path: Path) -> dict[str, np.ndarray]:
    """Mean colour in the middle of each quadrant of the first frame."""
    picture = read_clip(path, num_frames=1, size_px=64).frames[0].astype(float)
    middles = {"top_left": (16, 16), "top_right": (16, 48), "bottom_left": (48, 16), "bottom_right": (48, 48)}
    return {name: picture[y - 4 : y + 4, x - 4 : x + 4].mean(axis=(0, 1)) for name, (y, x) in middles.items()}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_damage_gives_a_video_of_the_same_length_that_serving_reads(moving: Path, name: str) -> None:
    clip = read_clip(damaged(moving, name), num_frames=4, size_px=32)
    assert clip.duration_s == pytest.approx(1.0, abs=0.15)
    assert clip.frames.shape == (4, 32, 32, 3)


@pytest.mark.parametrize(
    ("name", "codec", "size_px", "fps"),
    [
        ("h264_crf35", "h264", (160, 96), 25),
        ("mpeg4_q20", "mpeg4", (160, 96), 25),
        ("vp9_crf50", "vp9", (160, 96), 25),
        ("size_144p", "h264", (240, 144), 25),
        ("size_720p", "h264", (1200, 720), 25),
        ("fps_10", "h264", (160, 96), 10),
        ("fps_60", "h264", (160, 96), 60),
        ("letterbox_20", "h264", (160, 160), 25),
        ("pillarbox_20", "h264", (268, 96), 25),
        ("gif_64", "gif", (160, 96), 10),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_file_is_what_its_name_says(
    moving: Path, name: str, codec: str, size_px: tuple[int, int], fps: int
) -> None:
    with open_file(damaged(moving, name)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, (stream.width, stream.height)) == (codec, size_px)
        assert float(stream.average_rate) == pytest.approx(fps, rel=0.05)


def test_frames_keep_their_order_and_time(moving: Path) -> None:
    _, before, _ = decode_everything(moving)
    assert decode_everything(damaged(moving, "h264_crf18"))[1] == before
    _, slower, _ = decode_everything(damaged(moving, "fps_10"))
    assert slower == sorted(slower)
    assert len(slower) in (10, 11)


def test_more_compression_gives_fewer_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noise(index: int, width_px: int, height_px: int) -> np.ndarray:
        return rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)

    source = write_video(tmp_path / "noise.mp4", 10, picture=noise)
    sizes = [damaged(source, f"h264_crf{crf}").stat().st_size for crf in (18, 35, 45)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 3 * sizes[2]


def test_mirrored_pictures_are_mirrored_and_grey_ones_grey(coloured: Path) -> None:
    upright, mirrored = quadrants(coloured), quadrants(damaged(coloured, "flip"))
    assert mirrored["top_left"] == pytest.approx(upright["top_right"], abs=12)
    assert mirrored["bottom_right"] == pytest.approx(upright["bottom_left"], abs=12)
    for colour in quadrants(damaged(coloured, "grey")).values():
        assert np.ptp(colour) < 6


@pytest.mark.parametrize(("name", "axis"), [("letterbox_12", 0), ("pillarbox_20", 1)])
def test_bars_are_black_and_as_wide_as_they_should_be(coloured: Path, name: str, axis: int) -> None:
    picture = read_clip(damaged(coloured, name), num_frames=1, size_px=200).frames[0]
    bright = np.flatnonzero(picture.max(axis=(1 - axis, 2)) > 40)
    share = int(name.split("_")[1]) / 100
    assert bright[0] / 200 == pytest.approx(share, abs=0.015)
    assert 1 - (bright[-1] + 1) / 200 == pytest.approx(share, abs=0.015)


def test_a_gif_has_at_most_64_colours(coloured: Path) -> None:
    with av.open(str(damaged(coloured, "gif_64"))) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 64


@pytest.mark.parametrize("name", BY_NAME)
def test_stills_of_odd_size_are_damaged_too(tmp_path: Path, name: str) -> None:
    Image.fromarray(corners(0, 61, 43)).save(tmp_path / "still.png")
    assert read_clip(damaged(tmp_path / "still.png", name), num_frames=2, size_px=16).frames.any()


@pytest.mark.parametrize(("cos", "sin"), [(0, 1), (-1, 0), (0, -1)], ids=["90", "180", "270"])
def test_turned_video_is_damaged_upright(coloured: Path, tmp_path: Path, cos: int, sin: int) -> None:
    turned = tmp_path / "turned.mp4"
    one = 1 << 16
    matrix = [cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30]
    data = bytearray(coloured.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the display matrix lies 40 bytes into the track header
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    turned.write_bytes(data)
    copy = quadrants(damaged(turned, "h264_crf18"))
    assert copy["top_left"] != pytest.approx(quadrants(coloured)["top_left"], abs=60)
    for name, colour in copy.items():
        assert colour == pytest.approx(quadrants(turned)[name], abs=12)


def test_variable_frame_rate_keeps_its_length(tmp_path: Path) -> None:
    source = write_video(tmp_path / "vfr.mkv", pts_ms=[0, 40, 80, 500, 1000, 1040])
    assert read_clip(damaged(source, "h264_crf35")).duration_s == pytest.approx(1.1, abs=0.3)


def test_a_copy_is_made_once(moving: Path, tmp_path: Path) -> None:
    target = damaged_path(tmp_path, "hash", BY_NAME["flip"])
    target.parent.mkdir()
    target.write_bytes(b"made before")
    write_damaged(moving, BY_NAME["flip"], target)
    assert target.read_bytes() == b"made before"


@pytest.mark.parametrize("content", [b"", b"no video at all"], ids=["empty", "text"])
def test_what_is_no_video_is_named_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    source = tmp_path / "bad.mp4"
    source.write_bytes(content)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        write_damaged(source, BY_NAME["flip"], tmp_path / "copies" / "flip.mp4")
    assert list((tmp_path / "copies").iterdir()) == []


def test_an_encoder_that_does_not_exist_is_said(moving: Path, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no damaged copy odd"):
        write_damaged(moving, Damage("odd", "", codec="no_such_codec"), tmp_path / "odd.mp4")


def test_copies_of_another_recipe_have_another_name() -> None:
    keys = [damage.key for damage in DAMAGES]
    assert len(set(keys)) == len(keys)
    assert Damage("a", "x", fps=10).key == Damage("a", "other words", fps=10).key
    assert Damage("a", "x", fps=10).key != Damage("a", "x", fps=Fraction(12).numerator).key
