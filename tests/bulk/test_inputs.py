"""What a job's input names: folders, manifests, lists."""

import io
import os
from pathlib import Path

import pytest

from reelkind.bulk.errors import BulkError
from reelkind.bulk.inputs import read_uris
from reelkind.cli.options.inputs import PassedOver

pa = pytest.importorskip("pyarrow", reason="the extra bulk is not installed")
pq = pytest.importorskip("pyarrow.parquet")

URIS = ["a.mp4", "s3://bucket/b.mp4", "https://host/c.mp4"]
NOTHING = io.BytesIO()


def write_manifest(path: Path) -> str:
    if path.suffix == ".csv":
        path.write_text("id,address\n" + "".join(f"{at},{uri}\n" for at, uri in enumerate([*URIS, URIS[0]])))
    elif path.suffix == ".jsonl":
        path.write_text("".join(f'{{"address": "{uri}"}}\n' for uri in [*URIS, URIS[0]]))
    else:
        pq.write_table(pa.table({"address": [*URIS, URIS[0]]}), path)
    return str(path)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_manifest_gives_each_uri_once(tmp_path: Path, name: str) -> None:
    manifest = write_manifest(tmp_path / name)
    assert read_uris(manifest, "address", NOTHING) == URIS
    with pytest.raises(BulkError, match=r"'uri'.*--column"):
        read_uris(manifest, "uri", NOTHING)


def test_list_on_stdin() -> None:
    assert read_uris("-", "uri", io.BytesIO(b"a.mp4\r\n\nb.mp4\na.mp4\n")) == ["a.mp4", "b.mp4"]


def test_folder_is_searched_and_names_that_are_no_text_become_uris(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "below").mkdir()
    names = [b"below/z.mkv", b"a.MP4", b"\xff.mp4", b"notes.txt"]
    for name in names:
        Path(tmp_path, os.fsdecode(name)).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "below")
    passed_over = PassedOver(pictures=False)
    found = read_uris(str(tmp_path), "uri", NOTHING, passed_over)
    assert found == [f"{tmp_path}/a.MP4", f"file://{tmp_path}/%FF.mp4", f"{tmp_path}/below/z.mkv"]
    passed_over.say()
    assert f"1 other file, 1 linked folder (name what you want: {tmp_path}/linked)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"), [("gone", "no such folder"), ("list.txt", r"\.parquet"), ("empty", "names no")]
)
def test_what_names_nothing_is_said(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "list.txt").write_text("a.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BulkError, match=f"{name}: .*{reason}"):
        read_uris(str(tmp_path / name), "uri", NOTHING)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("latin.csv", b"uri\n\xe9.mp4\n", "UTF-8"),
        ("latin.jsonl", b'{"uri": "\xe9.mp4"}\n', "UTF-8"),
        ("half.jsonl", b'{"uri": "\\ud800.mp4"}\n', "UTF-8"),
        ("large.csv", b'uri\n"' + 200_000 * b"a" + b'"\n', "after line 1: no CSV"),
        ("number.jsonl", b'{"uri": 5}\n', "line 1: has no text"),
        ("other.parquet", b"PAR1", "no Parquet"),
    ],
)
def test_unreadable_manifest_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BulkError, match=f"{name}.*{reason}"):
        read_uris(str(tmp_path / name), "uri", NOTHING)


def test_column_that_holds_no_text_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [["a.mp4"]]}), tmp_path / "lists.parquet")
    with pytest.raises(BulkError, match=r"lists\.parquet: no Parquet with a text column 'uri'"):
        read_uris(str(tmp_path / "lists.parquet"), "uri", NOTHING)
