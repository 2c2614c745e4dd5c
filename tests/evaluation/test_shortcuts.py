import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from videos import write_video

from reelkind.evaluation import shortcuts
from reelkind.evaluation.damages import DAMAGES, Damage
from reelkind.evaluation.shortcuts import make_copies, shortcut_summary

from .made import made_predictions

FLIP, GREY = (next(damage for damage in DAMAGES if damage.name == name) for name in ("flip", "grey"))


def test_copies_are_made_and_a_bad_file_costs_only_itself(tmp_path: Path) -> None:
    files = {name: write_video(tmp_path / f"{name}.mp4", 5) for name in ("ä", "b")}
    files["bad"] = tmp_path / "bad.mp4"
    files["bad"].write_bytes(b"no video")
    files["gone"] = tmp_path / "gone.mp4"
    found = {copy.name: copy for copy in make_copies(files, tmp_path / "copies", 1, (FLIP, GREY))}
    assert set(found) == set(files)
    for name in ("ä", "b"):
        assert found[name].problem == ""
        assert [found[name].paths[damage].is_file() for damage in ("flip", "grey")] == [True, True]
    assert "not a readable video" in found["bad"].problem
    assert "No such file" in found["gone"].problem


def _kill_on_bad(name: str, path: Path, folder: Path, damages: tuple[Damage, ...]) -> shortcuts.Copies:
    """Stands in for a file that crashes FFmpeg, which none known to us does."""
    if name == "bad":
        os.kill(os.getpid(), signal.SIGKILL)
    return shortcuts.Copies(name, {"flip": path})


def test_a_file_that_kills_its_process_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_copies", _kill_on_bad)
    files = {name: tmp_path / name for name in ("a", "bad", "c")}
    found = {copy.name: copy for copy in make_copies(files, tmp_path, 1, (FLIP,))}
    assert set(found) == set(files)
    assert "crashed" in found["bad"].problem
    assert found["a"].paths == {"flip": tmp_path / "a"}


def test_a_damage_that_costs_more_than_three_points_is_flagged() -> None:
    before = made_predictions(skill=8.0)  # always right
    wrong = np.zeros(len(before), bool)
    wrong[:6] = True  # 5 % of 120 clips, of two works
    turned = np.where(wrong[:, None, None], np.roll(before.logits, 1, axis=2), before.logits)
    after = {"grey": dataclasses.replace(before, logits=turned), "flip": before}
    found = shortcut_summary(before, after, (FLIP, GREY), num_bootstraps=100)
    flip, grey = found["rows"]
    assert found["flagged"] == ["grey"]
    assert (flip["change_points"], flip["mcnemar_p"], flip["changed_answers"]) == (0, 1, 0)
    assert (grey["change_points"], grey["only_right_before"], grey["only_right_after"]) == (-5, 6, 0)
    assert grey["mcnemar_p"] == pytest.approx(2 * 0.5**6, abs=1e-4)
    assert grey["change_of_true_class_probability"] < -0.03
    assert grey["change_points_by_class"] == {"animation": -10, "gaming": -10, "natural": 0, "flat": 0}


def test_clips_without_a_copy_are_left_out_of_the_pair() -> None:
    before = made_predictions()
    found = shortcut_summary(before, {"flip": before.only(before.names[:30])}, (FLIP, GREY), num_bootstraps=20)
    assert [(row["damage"], row["num_clips"]) for row in found["rows"]] == [("flip", 30)]
