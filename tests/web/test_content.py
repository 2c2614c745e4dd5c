"""What a file is, by its first bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from videos import write_video

from reelkind.core.features import CLIP, Features, Recipe, Source
from reelkind.core.files import features_files
from reelkind.web.safety.content import FEATURES_TYPE, NotAVideoError, media_type_of

from .conftest import SAMPLES


@pytest.mark.parametrize(
    ("name", "codec", "expected"),
    [
        ("a.mp4", "libx264", "video/mp4"),
        ("a.mov", "libx264", "video/quicktime"),
        ("a.mkv", "libx264", "video/webm"),
        ("a.webm", "libvpx", "video/webm"),
        ("a.avi", "mpeg4", "video/x-msvideo"),
        ("a.ts", "libx264", "video/mp2t"),
        ("a.flv", "libx264", "video/x-flv"),
        ("a.mpg", "mpeg2video", "video/mpeg"),
        ("a.h264", "libx264", "video/h264"),
        ("a.gif", "gif", "image/gif"),
    ],
)
def test_videos_are_known_by_content(tmp_path: Path, name: str, codec: str, expected: str) -> None:
    path = write_video(tmp_path / name, 12, codec=codec, pixel_format="rgb8" if codec == "gif" else "yuv420p")
    assert media_type_of(path.read_bytes()[:4096]) == expected


def test_features_are_known_by_content(tmp_path: Path) -> None:
    recipe = Recipe(CLIP, ("m",), ("0" * 64,), ("identity",), 2, 32)
    features = Features(recipe, Source("a", "0" * 64, 1), {"m": np.zeros((1, 2, 3), np.float32)}, np.arange(2))
    assert media_type_of(features_files.to_bytes(features)[:4096]) == FEATURES_TYPE


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "is empty"),
        (b"%PDF-1.7", "a PDF document"),
        (b"PK\x03\x04...", "a ZIP archive"),
        (b"\x7fELF\x02", "a program"),
        (b"#EXTM3U\nfile:///etc/passwd", "a playlist"),
        (b"ffconcat version 1.0\nfile /etc/passwd", "a text"),
        (b"<!doctype html>", "a web page"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound without pictures"),
        (b"just words", "a text"),
        (bytes(range(200, 256)) * 9, "a kind unknown here"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{}", "a kind unknown here"),
        (b"\x02\0\0\0\0\0\0\0{}", "a text"),
        (b"\x02\0\0\0\0\0\0\0[]", "a text"),
    ],
)
def test_other_files_are_called_what_they_are(head: bytes, said: str) -> None:
    with pytest.raises(NotAVideoError, match=said):
        media_type_of(head)


def test_samples_are_videos() -> None:
    assert {media_type_of(path.read_bytes()[:4096]) for path in SAMPLES.glob("*.mp4")} == {"video/mp4"}
