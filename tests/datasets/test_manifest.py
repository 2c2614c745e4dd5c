import os
import re
from pathlib import Path, PurePosixPath

import pytest

from reelkind.core.errors import DataError
from reelkind.datasets.manifest import (
    COLUMNS,
    Layout,
    Update,
    find_manifests,
    list_tree,
    subcategory_and_work,
    update_manifest,
    without_counter,
)
from reelkind.datasets.tables import read_table, write_table

LAYOUT = Layout({".mp4", ".jpg"})


def put(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def update(folder: Path, layout: Layout = LAYOUT) -> Update:
    return update_manifest(folder, list_tree(folder, layout), start=lambda total: None)


@pytest.mark.parametrize(
    ("path", "class_name", "expected"),
    [
        ("moba/Dota 2/a.mp4", "gaming", ("moba", "Dota 2")),
        ("MOBA/a_01.mp4", "gaming", ("moba", "a")),
        ("moba/a.mp4", "animation", ("", "moba")),  # a game's kind says nothing about an animation
        ("minecraft/a.mp4", "gaming", ("", "minecraft")),
        ("Naruto/season 1/ep1.mp4", "animation", ("", "Naruto")),
        ("日本の祭り_003.mp4", "natural", ("", "日本の祭り")),
        ("0001.jpg", "flat", ("", "0001")),
    ],
)
def test_folders_and_names_say_subcategory_and_work(path: str, class_name: str, expected: tuple[str, str]) -> None:
    assert subcategory_and_work(PurePosixPath(path), class_name, LAYOUT) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"^([^-]+)-", ("", "one piece")),
        (r"(?P<source>x)?-(?P<work>\w+)", ("", "ep7")),
        (r"season (\d)", ("", "shows")),  # not found: the folder decides
    ],
    ids=["first-group", "named-group", "no-match"],
)
def test_a_pattern_comes_before_folders(pattern: str, expected: tuple[str, str]) -> None:
    layout = Layout({".mp4"}, work_pattern=re.compile(pattern))
    path = PurePosixPath("shows/one piece-ep7.mp4" if "season" in pattern else "one piece-ep7.mp4")
    assert subcategory_and_work(path, "animation", layout) == expected


def test_a_pattern_without_group_is_refused() -> None:
    with pytest.raises(DataError, match="no group"):
        Layout({".mp4"}, work_pattern=re.compile("abc"))


def test_any_folder_may_be_a_subcategory() -> None:
    layout = Layout({".mp4"}, any_subcategory=True)
    assert subcategory_and_work(PurePosixPath("shooter/quake/a.mp4"), "gaming", layout) == ("shooter", "quake")


@pytest.mark.parametrize(
    ("stem", "work"),
    [
        ("minecraft_clip_012", "minecraft"),
        ("one_piece_ep03 (2)", "one_piece"),
        ("naruto s01e02", "naruto"),
        ("film.part2", "film"),
        ("dance2", "dance"),
        ("scene-7", "scene-7"),
        ("0001", "0001"),
        ("matrix", "matrix"),
    ],
)
def test_counters_are_no_part_of_a_work(stem: str, work: str) -> None:
    assert without_counter(stem) == work


def test_a_tree_becomes_a_manifest(tmp_path: Path) -> None:
    put(tmp_path, "Animation/anime_mecha/Gundam/b.mp4", "flat/deck_1.jpg", "flat/.hidden.jpg", "flat/notes.txt")
    put(tmp_path, "sport/a.mp4", "loose.mp4", "readme.md")
    result = update(tmp_path)
    table = read_table(tmp_path / "manifest.csv", COLUMNS)
    assert [list(row.values())[:6] for row in table.rows] == [
        ["Animation/anime_mecha/Gundam/b.mp4", "animation", "anime_mecha", "Gundam", "", ""],
        ["flat/deck_1.jpg", "flat", "", "deck", "", ""],
    ]
    assert (
        table.rows[1]["sha256"] == "e9f12d488e1f20ada378883ab2de95a1b24a3011d93e2b8d6a7b8c39459e23f3"
    )  # of "flat/deck_1.jpg"
    assert [path for path, _ in result.skipped] == ["flat/notes.txt", "loose.mp4", "sport/"]
    assert "known: animation, gaming" in result.skipped[2][1]


def test_a_second_run_keeps_edits_appends_and_reports(tmp_path: Path) -> None:
    put(tmp_path, "flat/a/1.mp4", "flat/a/2.mp4")
    update(tmp_path)
    table = read_table(tmp_path / "manifest.csv", COLUMNS)
    table.rows[0] |= {"class": "Gaming", "work": "mine", "split": "val", "licence": "CC0", "sha256": ""}
    write_table(table.path, [*table.columns, "note"], [table.rows[0] | {"note": "hm"}, table.rows[1]])
    (tmp_path / "flat/a/2.mp4").unlink()
    put(tmp_path, "flat/b/3.mp4")
    result = update(tmp_path)
    rows = read_table(tmp_path / "manifest.csv", [*COLUMNS, "note"]).rows
    assert (result.num_new, result.vanished) == (1, ["flat/a/2.mp4"])
    assert [row["path"] for row in rows] == ["flat/a/1.mp4", "flat/a/2.mp4", "flat/b/3.mp4"]
    edited = {key: rows[0][key] for key in ("class", "work", "split", "licence", "note")}
    assert edited == {"class": "Gaming", "work": "mine", "split": "val", "licence": "CC0", "note": "hm"}
    assert len(rows[0]["sha256"]) == 64
    before = table.path.read_bytes()
    assert update(tmp_path).num_new == 0
    assert table.path.read_bytes() == before


def test_a_malformed_manifest_is_not_written_over(tmp_path: Path) -> None:
    put(tmp_path, "flat/a.mp4")
    (tmp_path / "manifest.csv").write_text("path,class,work\nflat/a.mp4,flt,x\n")
    with pytest.raises(DataError, match=r"manifest\.csv:2: flat/a\.mp4 has class 'flt'"):
        update(tmp_path)
    assert "flt" in (tmp_path / "manifest.csv").read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_skipped_and_the_others_listed(tmp_path: Path) -> None:
    put(tmp_path, "flat/a.mp4", "flat/b.mp4")
    (tmp_path / "flat/a.mp4").chmod(0)
    result = update(tmp_path)
    assert (result.num_failed, [row["path"] for row in result.table.rows]) == (1, ["flat/b.mp4"])


def test_dangling_links_and_pipes_are_skipped_and_the_others_listed(tmp_path: Path) -> None:
    put(tmp_path, "flat/b.mp4")
    (tmp_path / "flat/a.mp4").symlink_to("nowhere")
    os.mkfifo(tmp_path / "flat/c.mp4")
    result = update(tmp_path)
    assert (result.num_failed, [row["path"] for row in result.table.rows]) == (2, ["flat/b.mp4"])
    assert result.skipped == [
        ("flat/a.mp4", "cannot be read: No such file or directory"),
        ("flat/c.mp4", "cannot be read: is no regular file"),
    ]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    put(tmp_path, "flat/a/1.mp4")
    (tmp_path / "flat/a/again").symlink_to("..")
    paths = [row["path"] for row in list_tree(tmp_path, LAYOUT).rows]
    assert "flat/a/1.mp4" in paths
    assert len(paths) < 4


def test_names_that_are_no_text_are_listed(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"x")
    update(tmp_path)
    assert update(tmp_path).num_new == 0
    assert b"flat/\xff\xfe.mp4,flat" in (tmp_path / "manifest.csv").read_bytes()


def test_a_folder_without_media_or_no_folder_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "sport/a.mp4")
    with pytest.raises(DataError, match=r"sport/ is no class"):
        update(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        list_tree(tmp_path / "nope", LAYOUT)
    assert not (tmp_path / "manifest.csv").exists()


def test_manifests_are_found_in_a_folder_or_below_and_once(tmp_path: Path) -> None:
    for name in ("b", "a"):
        put(tmp_path, f"{name}/flat/x.mp4")
        update(tmp_path / name)
    found = find_manifests([tmp_path / "b/manifest.csv", tmp_path, tmp_path / "a" / ".." / "b"])
    assert [path.parent.name for path in found] == ["b", "a"]
    with pytest.raises(DataError, match="reelkind dataset manifest"):
        find_manifests([tmp_path / "a" / "flat"])
