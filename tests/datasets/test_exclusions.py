from pathlib import Path

import pytest

from reelkind.core.errors import DataError
from reelkind.datasets.exclusions import EXCLUSIONS_NAME, Exclusion, Finding, Reason, read_exclusions, write_exclusions
from reelkind.datasets.tables import read_table


def finding(name: str, reason: Reason, other: str | Path = "", folder: Path = Path("d")) -> Finding:
    return Finding(folder / name, reason, "some detail", other)


def write(folder: Path, *findings: Finding) -> list[tuple[bool, bool]]:
    return [(verdict.exclude, verdict.is_new) for verdict in write_exclusions(folder, findings, folder)]


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / EXCLUSIONS_NAME
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("reason", Reason)
def test_only_findings_that_leave_no_doubt_exclude(tmp_path: Path, reason: Reason) -> None:
    doubtful = reason in (Reason.NEAR_DUPLICATE, Reason.MISLABELLED)
    assert write(tmp_path, finding("a.mp4", reason, folder=tmp_path)) == [(not doubtful, True)]
    (row,) = read_exclusions(tmp_path)
    assert row == Exclusion(tmp_path / "a.mp4", reason.value, "", not doubtful)


def test_the_other_file_may_lie_in_another_folder(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "theirs" / "b.mp4"
    mine.mkdir()
    write(mine, Finding(mine / "a.mp4", Reason.LEAK, "", other))
    assert read_table(mine / EXCLUSIONS_NAME, ["other"]).rows[0]["other"] == "../theirs/b.mp4"
    (row,) = read_exclusions(mine)
    assert isinstance(row.other, Path)
    assert row.other.resolve() == other.resolve()


def test_hand_edits_survive_a_second_check(tmp_path: Path) -> None:
    found = [
        finding("a.mp4", Reason.UNREADABLE, folder=tmp_path),
        finding("b.mp4", Reason.MISLABELLED, "flat", folder=tmp_path),
    ]
    write(tmp_path, *found)
    edit(tmp_path, "a.mp4,unreadable,some detail,,yes", "a.mp4,unreadable,some detail,,no")
    edit(tmp_path, "b.mp4,mislabelled,some detail,flat,no", "b.mp4,mislabelled,some detail,flat,yes")
    assert write(tmp_path, *found) == [(False, False), (True, False)]
    assert [row.exclude for row in read_exclusions(tmp_path)] == [False, True]


def test_rows_and_columns_added_by_hand_survive(tmp_path: Path) -> None:
    (tmp_path / EXCLUSIONS_NAME).write_text("path,exclude,reason,why\nugly.mp4,yes,,too dark\na.mp4,yes,missing,sure\n")
    write(tmp_path, finding("a.mp4", Reason.MISSING, folder=tmp_path))
    rows = read_table(tmp_path / EXCLUSIONS_NAME, ["path"]).rows
    assert [(row["path"], row["why"], row["detail"]) for row in rows] == [
        ("a.mp4", "sure", "some detail"),
        ("ugly.mp4", "too dark", ""),
    ]


def test_what_is_found_no_more_goes_unless_a_person_decided(tmp_path: Path) -> None:
    write(
        tmp_path,
        finding("mended.mp4", Reason.UNREADABLE, folder=tmp_path),
        finding("judged.mp4", Reason.MISLABELLED, "flat", folder=tmp_path),
        finding("ignored.mp4", Reason.MISLABELLED, "flat", folder=tmp_path),
    )
    edit(tmp_path, "judged.mp4,mislabelled,some detail,flat,no", "judged.mp4,mislabelled,some detail,flat,YES")
    write(tmp_path)
    assert read_exclusions(tmp_path) == [Exclusion(tmp_path / "judged.mp4", "mislabelled", "flat", True)]


def test_nothing_found_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    assert not list(tmp_path.iterdir())
    assert read_exclusions(tmp_path) == []


def test_an_answer_that_is_neither_yes_nor_no_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / EXCLUSIONS_NAME
    path.write_text("path,exclude\na.mp4,yes\nb.mp4,maybe\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"exclusions\.csv:3: exclude is 'maybe'"):
        write(tmp_path)
    assert path.read_bytes() == before
