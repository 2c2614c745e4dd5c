import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reelkind.core.errors import DataError, LeakError
from reelkind.datasets.grouping import group_folds, origin_groups, work_groups
from reelkind.datasets.sample import Sample
from reelkind.datasets.samples import read_samples, refuse_leaks, split_samples
from reelkind.training.config import SamplingConfig
from reelkind.training.inputs.sampling import sampling_weights


def sample(name: str, work: str, label: int = 0, split: str = "train", **fields) -> Sample:
    return Sample(Path(name), label, work, source="clips", split=split, **fields)


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> None:
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_manifests_become_samples(tmp_path: Path) -> None:
    write_manifest(tmp_path / "clips", [{"path": "a.mp4", "class": "flat", "work": "w", "split": "val"}])
    write_manifest(tmp_path / "stills", [{"path": "b.jpg", "class": "natural", "work": "x", "near_val": "yes"}])
    clip, still = read_samples(tmp_path, ["clips", "stills"])
    assert (clip.label, clip.split, clip.near_val, clip.is_still) == (3, "val", False, False)
    assert (still.label, still.split, still.near_val, still.is_still) == (2, "train", True, True)
    assert still.path == tmp_path / "stills" / "b.jpg"


def test_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clips.manifest\.csv"):
        read_samples(tmp_path, ["clips"])


@pytest.mark.parametrize(
    ("row", "message"),
    [({"path": "a", "class": "sports", "work": "w"}, "class 'sports'"), ({"path": "a", "class": "flat"}, "lacks")],
    ids=["class", "column"],
)
def test_broken_manifests_are_refused(tmp_path: Path, row: dict[str, str], message: str) -> None:
    write_manifest(tmp_path / "clips", [row])
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path, ["clips"])


def test_optional_columns_are_read_whatever_their_case(tmp_path: Path) -> None:
    row = {"path": "a.mp4", "class": " Gaming", "work": "w ", "split": "TEST", "subcategory": "moba"}
    write_manifest(tmp_path / "clips", [row | {"licence": "CC0", "sha256": "AB" * 32, "near_val": "No"}])
    (found,) = read_samples(tmp_path, ["clips"])
    assert found == Sample(
        tmp_path / "clips/a.mp4", 1, "w", "clips", "test", False, "moba", licence="CC0", sha256="ab" * 32
    )


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"class": ""}, "class is empty"),
        ({"work": " "}, "work is empty"),
        ({"split": "training"}, r"split 'training' \(known: train, val, test"),
        ({"sha256": "123"}, "not 64 hexadecimal digits"),
        ({"path": "a.mp4"}, r"lists a\.mp4 again \(.*manifest\.csv:2\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_cell_is_named_with_its_line(tmp_path: Path, cells: dict[str, str], message: str) -> None:
    good = {"path": "a.mp4", "class": "flat", "work": "w", "split": "", "sha256": ""}
    write_manifest(tmp_path / "clips", [good, good | {"path": "b.mp4"} | cells])
    with pytest.raises(DataError, match=rf"manifest\.csv:3.*{message}"):
        read_samples(tmp_path, ["clips"])


def test_excluded_rows_are_not_loaded_and_their_number_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"path": f"{name}.mp4", "class": "flat", "work": name} for name in "abc"]
    write_manifest(tmp_path / "clips", rows)
    (tmp_path / "clips/exclusions.csv").write_text("path,reason,exclude\na.mp4,leak,Yes\nb.mp4,leak,no\nc.mp4,ugly,\n")
    with caplog.at_level("INFO"):
        assert [found.path.stem for found in read_samples(tmp_path, ["clips"])] == ["b", "c"]
    assert "1 of 3 left out by exclusions.csv" in caplog.text


def test_the_data_folder_itself_may_be_the_source(tmp_path: Path) -> None:
    write_manifest(tmp_path / "mine", [{"path": "a.mp4", "class": "flat", "work": "w"}])
    (found,) = read_samples(tmp_path / "mine", ["."])
    assert (found.path, found.source) == (tmp_path / "mine/a.mp4", "mine")


def test_the_hash_of_the_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    listed, computed = (sample(str(tmp_path / "a.mp4"), "w", sha256=sha256) for sha256 in ("0" * 64, ""))
    assert listed.content_hash == "0" * 64
    assert computed.content_hash == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Pokémon", "pokemon", True),
        ("日本の祭り", "日本の海", False),
        ("ナルト", "ナルト!", True),
        ("!!!", "???", False),
    ],
)
def test_works_of_any_script_are_told_apart(one: str, other: str, same: bool) -> None:
    first, second = work_groups([sample("a", one), sample("b", other)])
    assert (first == second) == same


def test_names_of_one_work_share_a_group() -> None:
    works = ["The Simpsons", "simpsons", "Toy Story 3", "Toy Story", "cars", "carscapes", "studio__simpsons__x"]
    groups = work_groups([sample(str(i), work) for i, work in enumerate(works)])
    assert groups[0] == groups[1] == groups[6]
    assert groups[2] == groups[3]
    assert groups[4] != groups[5]


def test_training_loses_what_is_near_validation() -> None:
    samples = [
        sample("a", "zootopia", split="val"),
        sample("b", "Zootopia (game)"),
        sample("c", "minecraft", near_val=True),
        sample("d", "cityscapes"),
    ]
    train, val = split_samples(samples)
    assert [s.path.name for s in train] == ["d"]
    assert [s.path.name for s in val] == ["a"]


def test_training_loses_what_is_near_test_and_test_is_given_to_nobody() -> None:
    samples = [
        sample("a", "zootopia", split="test"),
        sample("b", "Zootopia (game)"),
        sample("c", "cityscapes", split="val"),
        sample("d", "moving pictures"),
    ]
    train, val = split_samples(samples)
    assert [s.path.name for s in (*train, *val)] == ["d", "c"]


@pytest.mark.parametrize("sides", [(0, 1), (0, 2), (1, 2)])
def test_every_two_sides_are_compared(sides: tuple[int, int]) -> None:
    splits = [[sample(f"{i}", f"a work of its own {i * 7}")] for i in range(3)]
    refuse_leaks(*splits)
    for side in sides:
        splits[side].append(sample("x", "shared work", sha256="0" * 64))
    with pytest.raises(LeakError, match="'shared work' and 'shared work'"):
        refuse_leaks(*splits)


def test_a_work_in_validation_and_test_is_refused() -> None:
    samples = [sample("a", "one work", split="val"), sample("b", "One Work", split="test"), sample("c", "another")]
    with pytest.raises(LeakError, match="'one work' and 'One Work'"):
        split_samples(samples)


def test_a_work_on_both_sides_is_refused() -> None:
    with pytest.raises(LeakError, match="works on both sides"):
        refuse_leaks([sample("a", "Up!")], [sample("b", "up")])


def test_a_file_on_both_sides_is_refused(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"same picture")
    with pytest.raises(LeakError, match="same file"):
        refuse_leaks([sample(str(tmp_path / "a.jpg"), "one")], [sample(str(tmp_path / "b.jpg"), "other")])


def test_one_empty_side_is_refused() -> None:
    with pytest.raises(DataError, match="0 validation"):
        split_samples([sample("a", "some")])


def test_folds_keep_works_whole_and_classes_even() -> None:
    samples = [
        sample(f"{label}-{work}-{i}", f"work {label} {work} is long", label)
        for label in range(4)
        for work in range(9)
        for i in range(1 + work)
    ]
    folds = group_folds(samples, 3, seed=0)
    assert sorted(np.concatenate(folds)) == list(range(len(samples)))
    groups = work_groups(samples)
    for i, fold in enumerate(folds):
        rest = np.concatenate([other for j, other in enumerate(folds) if j != i])
        assert not {groups[k] for k in fold} & {groups[k] for k in rest}
        counts = Counter(samples[k].label for k in fold)
        assert max(counts.values()) - min(counts.values()) <= 3


def test_too_few_works_for_the_folds_are_refused() -> None:
    with pytest.raises(DataError, match="1 works cannot make 2 folds"):
        group_folds([sample("a", "w"), sample("b", "w")], 2, seed=0)


def test_classes_are_drawn_equally_and_big_works_damped() -> None:
    samples = [sample(f"a{i}", "big work", 0) for i in range(9)] + [sample("b", "tiny", 0), sample("c", "other", 1)]
    weights = sampling_weights(samples, SamplingConfig(clip_weight=1.0, work_exponent=0.5))
    assert weights.sum() == pytest.approx(1)
    assert weights[10] == pytest.approx(0.5)
    assert weights[:9].sum() == pytest.approx(3 * weights[9])


def test_sources_of_one_repository_are_one_group_and_so_are_their_other_works() -> None:
    samples = [
        sample("a", "alpine skiing", repository="one"),
        sample("b", "bridge building", repository="one"),
        sample("c", "bridge building", repository="two"),
        sample("d", "deep sea", repository="three"),
        sample("e", "electric cars"),
        sample("f", "farm animals"),
    ]
    groups = origin_groups(samples)
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 4


def test_a_repository_named_like_a_work_is_not_that_work() -> None:
    groups = origin_groups([sample("a", "minecraft"), sample("b", "terraria", repository="minecraft")])
    assert groups[0] != groups[1]


def test_training_loses_what_shares_a_repository_with_validation() -> None:
    samples = [
        sample("a", "alpine skiing", split="val", repository="one"),
        sample("b", "bridge building", repository="one"),
        sample("c", "bridge building", repository="two"),
    ]
    train, _ = split_samples(samples)
    assert [s.path.name for s in train] == ["c"]  # its neighbour's neighbour is no neighbour


def test_folds_test_clips_once_and_hide_stills_that_are_related_to_them() -> None:
    clips = [sample(f"{i}.mp4", f"work number {i:02}", repository=f"r{i // 2}") for i in range(12)]
    stills = [
        sample("related.jpg", "work number 03"),
        sample("neighbour.jpg", "some other", repository="r4"),
        sample("far.jpg", "elsewhere", repository="r99"),
    ]
    folds = group_folds([*clips, *stills], 3, seed=0)
    held_out = [i for fold in folds for i in fold if i < 12]
    assert sorted(held_out) == list(range(12))
    for fold in map(set, folds):
        assert all((i in fold) == (i + 1 in fold) for i in range(0, 12, 2))
        assert (12 in fold) == (3 in fold)
        assert (13 in fold) == (8 in fold)
        assert 14 not in fold
