"""Files that are written whole or not at all."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

import pytest

from reelkind.core.files.whole_files import whole_file, write_json, write_whole


def test_a_file_takes_the_place_of_another_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    write_whole(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


@pytest.mark.parametrize("name", ["folder", "none/a", "file/a"])
def test_errors_name_the_file_that_was_meant(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"folder|none|file") as caught:
        write_whole(tmp_path / name, b"new")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / name), None)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def fill(file: BinaryIO) -> None:
    file.write(b"half")
    raise OSError(28, "the disk is full")


def test_a_file_that_fails_on_the_way_never_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "old")
    with pytest.raises(OSError, match="full") as caught, whole_file(tmp_path / "a") as file:
        fill(file)
    assert caught.value.filename == str(tmp_path / "a")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_json(tmp_path / "link", ["new"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_text() == '[\n  "new"\n]\n'


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_secret_is_its_owners(tmp_path: Path) -> None:
    write_whole(tmp_path / "key", b"secret", private=True, durable=True)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_text_of_any_file_name_survives(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "ü\udcff")
    assert (tmp_path / "a").read_bytes() == b"\xc3\xbc\xff"
