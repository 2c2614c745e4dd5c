"""Files that are written whole or not at all."""

from pathlib import Path

import pytest

from reelkind.core.files.whole_files import write_whole


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
