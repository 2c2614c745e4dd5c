import os
from pathlib import Path

import pytest

from reelkind.core.errors import DataError
from reelkind.datasets.tables import read_table, write_table


def test_unknown_columns_and_odd_names_survive(tmp_path: Path) -> None:
    odd = os.fsdecode(b'a \xff, "b"\n\xc3\xbc.mp4')
    rows = [{"path": odd, "mine": "keep"}, {"path": "日本.mp4", "mine": ""}]
    write_table(tmp_path / "t.csv", ["path", "mine"], rows)
    table = read_table(tmp_path / "t.csv", ["path"])
    assert table.rows == rows
    assert table.columns == ["path", "mine"]
    assert os.fsencode(odd).split(b"\n")[0].replace(b'"', b'""') in (tmp_path / "t.csv").read_bytes()


def test_a_byte_order_mark_and_short_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfpath, class\r\na.mp4\r\n")
    assert read_table(tmp_path / "t.csv", ["path", "class"]).rows == [{"path": "a.mp4", "class": ""}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"lacks the column path, work \(found: nothing\)"),
        (b"path;work\na;b\n", r"found: path;work\); .* separated by commas"),
        (b"path,work\na,b\nc,d,e\n", r"t\.csv:3 has more cells"),
        (b"path,work,work\n", "two columns 'work'"),
        (b'path,work\n"a,b', "t.csv:2 .*"),
        (b"\xff\xfep\0a\0t\0h\0", "lacks the column"),
    ],
    ids=["empty", "semicolons", "long-row", "twice", "open-quote", "utf-16"],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    if content == b'path,work\n"a,b':  # the csv module forgives it: the row is just short
        assert read_table(tmp_path / "t.csv", ["path", "work"]).rows == [{"path": "a,b", "work": ""}]
        return
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "t.csv", ["path", "work"])


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(path, ["a"], [{"a": "old"}])

    def rows():
        yield {"a": "new"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_table(path, ["a"], rows())
    assert read_table(path, ["a"]).rows == [{"a": "old"}]
    assert [found.name for found in tmp_path.iterdir()] == ["t.csv"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("a\n")
    (tmp_path / "t.csv").symlink_to("real.csv")
    write_table(tmp_path / "t.csv", ["a"], [{"a": "x"}])
    assert (tmp_path / "t.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "a\nx\n"
