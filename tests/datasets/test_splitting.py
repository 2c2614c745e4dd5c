from collections import Counter
from pathlib import Path

import pytest

from reelkind.core.errors import DataError, LeakError
from reelkind.core.taxonomy.classes import CLASSES
from reelkind.datasets.samples import read_samples, refuse_leaks
from reelkind.datasets.splitting import Member, Shares, split_manifests
from reelkind.datasets.tables import read_table, write_table

SHARES = Shares.parse("70/20/10")
COLUMNS = ("path", "class", "subcategory", "work", "split", "note")


def write(folder: Path, rows: list[dict[str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "manifest.csv", COLUMNS, rows)
    return folder / "manifest.csv"


def row(path: str, work: str, split: str = "", class_name: str = "flat", **cells: str) -> dict[str, str]:
    return {"path": path, "class": class_name, "work": work, "split": split, **cells}


def many(num_works: int = 40) -> list[dict[str, str]]:
    """Two subcategories of each class, works of 1 to 5 files."""
    return [
        row(f"{name}/{kind}/{work}-{i}.mp4", f"{name} {kind} work {work:03}", class_name=name, subcategory=kind)
        for name in CLASSES
        for kind in ("one", "two")
        for work in range(num_works)
        for i in range(1 + work % 5)
    ]


def splits(manifest: Path) -> dict[str, str]:
    return {cells["path"]: cells["split"] for cells in read_table(manifest, COLUMNS).rows}


def share(members: list[Member], split: str, **wanted: str) -> float:
    mine = [m for m in members if all(getattr(m.sample, key) == value for key, value in wanted.items())]
    return sum(member.split == split for member in mine) / len(mine)


def test_shares_come_out_in_every_subcategory_and_works_stay_whole(tmp_path: Path) -> None:
    manifest = write(tmp_path / "d", many())
    members = split_manifests([manifest], SHARES, seed=0)
    for split in ("train", "val", "test"):
        assert share(members, split) == pytest.approx(SHARES.of(split), abs=0.01)
        for kind in ("one", "two"):
            assert share(members, split, subcategory=kind) == pytest.approx(SHARES.of(split), abs=0.02)
    samples = read_samples(tmp_path, ["d"])
    assert Counter(sample.split for sample in samples) == Counter(member.split for member in members)
    of_work: dict[str, set[str]] = {}
    for sample in samples:
        of_work.setdefault(sample.work, set()).add(sample.split)
    assert all(len(found) == 1 for found in of_work.values())


def test_the_same_seed_gives_the_same_split_and_another_one_another(tmp_path: Path) -> None:
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        manifest = write(tmp_path / name, many(10))
        split_manifests([manifest], SHARES, seed)
        results.append(splits(manifest))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_a_split_is_frozen_once_written(tmp_path: Path) -> None:
    manifest = write(tmp_path, many(10))
    split_manifests([manifest], SHARES, seed=0)
    before, content = splits(manifest), manifest.read_bytes()
    split_manifests([manifest], Shares.parse("50/25/25"), seed=5)
    assert manifest.read_bytes() == content
    table = read_table(manifest, COLUMNS)
    known = table.rows[0]["work"]
    new = [row(f"new-{i}.mp4", f"fresh work {i:03}") for i in range(30)] + [row("more.mp4", known.upper() + "!")]
    write_table(manifest, COLUMNS, [*new, *table.rows])
    split_manifests([manifest], SHARES, seed=7)
    after = splits(manifest)
    assert {path: after[path] for path in before} == before
    assert after["more.mp4"] == before[table.rows[0]["path"]]
    assert all(after.values())


def test_new_works_make_up_for_what_is_missing(tmp_path: Path) -> None:
    rows = [row(f"old-{i}.mp4", f"known work {i:03}", "train") for i in range(50)]
    rows += [row(f"new-{i}.mp4", f"fresh work {i:03}") for i in range(50)]
    members = split_manifests([write(tmp_path, rows)], SHARES, seed=0)
    assert Counter(member.split for member in members) == {"train": 70, "val": 20, "test": 10}


def test_a_work_with_two_splits_is_refused_and_nothing_written(tmp_path: Path) -> None:
    manifest = write(
        tmp_path, [row("a", "The Simpsons", "train"), row("b", "simpsons", "test"), row("c", "another one")]
    )
    before = manifest.read_bytes()
    with pytest.raises(LeakError, match="'The Simpsons' in train, 'simpsons' in test"):
        split_manifests([manifest], SHARES, seed=0)
    assert manifest.read_bytes() == before


def link(folder: Path, one: str, other: str, exclude: str = "no", reason: str = "near_duplicate") -> None:
    with (folder / "exclusions.csv").open("a") as file:
        if not file.tell():
            file.write("path,reason,detail,other,exclude\n")
        file.write(f"{one},{reason},,{other},{exclude}\n")


def test_near_duplicate_works_stay_together_also_across_manifests(tmp_path: Path) -> None:
    first = write(tmp_path / "one", [row(f"{i}.mp4", f"first work {i:03}") for i in range(40)])
    second = write(tmp_path / "two", [row(f"{i}.mp4", f"second work {i:03}") for i in range(40)])
    for i in range(0, 40, 2):
        link(tmp_path / "one", f"{i}.mp4", f"../two/{i}.mp4")
        link(tmp_path / "one", f"{i}.mp4", f"{i + 1}.mp4")
    split_manifests([first, second], SHARES, seed=0)
    one, two = splits(first), splits(second)
    assert all(one[f"{i}.mp4"] == two[f"{i}.mp4"] == one[f"{i + 1}.mp4"] for i in range(0, 40, 2))
    assert len(set(one.values())) == 3


def test_links_a_person_judged_do_not_tear_frozen_splits(tmp_path: Path) -> None:
    rows = [row("a", "the first", "train"), row("b", "the second", "val"), row("c", "third work")]
    manifest = write(tmp_path, rows)
    link(tmp_path, "a", "b")
    split_manifests([manifest], SHARES, seed=0)
    assert list(splits(manifest).values())[:2] == ["train", "val"]


def test_excluded_rows_follow_their_work_and_do_not_count(tmp_path: Path) -> None:
    rows = [row(f"{i}.mp4", f"some work {i:03}") for i in range(50)]
    rows += [row(f"bad-{i}.mp4", "some work 000") for i in range(200)]
    manifest = write(tmp_path, rows)
    for i in range(200):
        link(tmp_path, f"bad-{i}.mp4", "", "yes", "unreadable")
    members = split_manifests([manifest], SHARES, seed=0)
    counted = Counter(member.split for member in members if member.counts)
    assert counted == {"train": 35, "val": 10, "test": 5}
    found = splits(manifest)
    assert {found[f"bad-{i}.mp4"] for i in range(200)} == {found["0.mp4"]}


def test_rows_near_validation_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    rows = [row("a", "simpsons", "val"), row("b", "The Simpsons"), row("c", "other one", "train")]
    columns = [*COLUMNS, "near_val"]
    write_table(folder / "manifest.csv", columns, [rows[0], rows[1] | {"near_val": "yes"}, rows[2]])
    split_manifests([folder / "manifest.csv"], SHARES, seed=0)
    assert splits(folder / "manifest.csv") == {"a": "val", "b": "", "c": "train"}


def test_a_dry_run_writes_nothing_and_a_missing_column_is_added(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("work,class,path\nalpha,flat,a\nbeta,flat,b\n")
    before = manifest.read_bytes()
    assert [member.split for member in split_manifests([manifest], SHARES, seed=0, write=False)] == ["train", "train"]
    assert manifest.read_bytes() == before
    split_manifests([manifest], SHARES, seed=0)
    assert manifest.read_text() == "work,class,path,split\nalpha,flat,a,train\nbeta,flat,b,train\n"


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to split"):
        split_manifests([write(tmp_path, [])], SHARES, seed=0)


def test_without_a_test_share_nothing_is_tested(tmp_path: Path) -> None:
    members = split_manifests([write(tmp_path, many(10))], Shares.parse("80/20/0"), seed=0)
    assert {member.split for member in members} == {"train", "val"}


@pytest.mark.parametrize("text", ["70/20", "70/20/20", "100/0/0", "0/50/50", "70/40/-10", "a/b/c", "70/20/nan"])
def test_shares_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Shares.parse(text)


def test_split_data_have_no_leak(tmp_path: Path) -> None:
    manifest = write(tmp_path / "d", many(6))
    split_manifests([manifest], SHARES, seed=0)
    samples = read_samples(tmp_path, ["d"])
    refuse_leaks(*([s for s in samples if s.split == split] for split in ("train", "val", "test")))
