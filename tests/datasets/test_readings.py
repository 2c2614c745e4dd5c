from pathlib import Path

import pytest

from reelkind.core.errors import DataError
from reelkind.datasets.readings import Reading, apply_readings, read_readings
from reelkind.datasets.sample import Sample
from reelkind.datasets.samples import read_samples

HEADER = "set,path,subcategory46,flag,work_fixed\n"


def sample(root: Path, name: str, **fields: object) -> Sample:
    values = {"label": 0, "work": "w", "source": "clips"} | fields
    return Sample(root / "clips" / name, **values)


def test_flags_and_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(
        HEADER + "clips,a.mp4,moba,,Dota 2\n"
        "clips,b.mp4,none,ambiguous; near duplicate of flat/0410.jpg,\n"
        "clips,c.mp4,,wrong class: natural,\n"
        'clips,d.mp4,,"leak: val film Bambi, near_val=no",\n'
    )
    found = read_readings(path)
    assert found["clips", "a.mp4"] == Reading(work="Dota 2", subcategory="moba")
    assert found["clips", "b.mp4"] == Reading(subcategory="none", is_ambiguous=True, is_duplicate=True)
    assert found["clips", "c.mp4"].class_name == "natural"
    assert found["clips", "d.mp4"].is_leak


def test_an_unknown_class_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "readings.csv").write_text(HEADER + "clips,a.mp4,,wrong class: sports,\n")
    with pytest.raises(DataError, match=r"readings\.csv:2.*'sports'.*animation"):
        read_readings(tmp_path / "readings.csv")


def test_samples_are_corrected_and_doubtful_stills_left_out(tmp_path: Path) -> None:
    samples = [
        sample(tmp_path, "a.mp4", subcategory="anime"),
        sample(tmp_path, "b.mp4", subcategory="anime"),
        sample(tmp_path, "doubtful.jpg"),
        sample(tmp_path, "doubtful.mp4"),
        sample(tmp_path, "twin.mp4"),
        sample(tmp_path, "leak.mp4"),
        sample(tmp_path, "nobody_read_it.mp4", subcategory="own"),
    ]
    readings = {
        ("clips", "a.mp4"): Reading(work="One Piece", subcategory="anime_shonen_action", class_name="flat"),
        ("clips", "b.mp4"): Reading(subcategory="none"),
        ("clips", "doubtful.jpg"): Reading(is_ambiguous=True),
        ("clips", "doubtful.mp4"): Reading(is_ambiguous=True),
        ("clips", "twin.mp4"): Reading(is_duplicate=True),
        ("clips", "leak.mp4"): Reading(is_leak=True),
    }
    found = {each.path.name: each for each in apply_readings(samples, readings, tmp_path)}
    assert set(found) == {"a.mp4", "b.mp4", "doubtful.mp4", "leak.mp4", "nobody_read_it.mp4"}
    first = found["a.mp4"]
    assert (first.work, first.subcategory, first.label) == ("One Piece", "anime_shonen_action", 3)
    assert (found["b.mp4"].work, found["b.mp4"].subcategory) == ("w", "")
    assert (found["leak.mp4"].near_val, found["doubtful.mp4"].near_val) == (True, False)
    assert found["nobody_read_it.mp4"].subcategory == "own"


def test_they_lie_in_the_data_folder_and_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/manifest.csv").write_text("path,class,work,source_repo\na.mp4,flat,w,some/repository\n")
    (tmp_path / "seen.csv").write_text(HEADER + "clips,a.mp4,trading_charts,,\n")
    (found,) = read_samples(tmp_path, ["clips"], readings="seen.csv")
    assert (found.subcategory, found.repository) == ("trading_charts", "some/repository")
    with pytest.raises(DataError, match=r"absent\.csv"):
        read_samples(tmp_path, ["clips"], readings="absent.csv")


def test_the_taxonomys_name_comes_before_the_collectors(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    rows = "a.mp4,flat,w,charts,trading_charts\nb.mp4,flat,w,charts,none\nc.mp4,flat,w,charts,\n"
    (tmp_path / "clips/manifest.csv").write_text("path,class,work,subcategory,subcategory46\n" + rows)
    assert [each.subcategory for each in read_samples(tmp_path, ["clips"])] == ["trading_charts", "", "charts"]
