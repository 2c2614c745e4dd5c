import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelkind.core.specs import MAX_PASSES
from reelkind.evaluation.ensembling import ensemble_summary
from reelkind.evaluation.measures.baselines import baseline_scores
from reelkind.evaluation.plots import contact_sheet, draw, read_losses
from reelkind.evaluation.report import abstain_sentence, for_member, render
from reelkind.evaluation.shortcuts import shortcut_summary
from reelkind.evaluation.summary import baseline_rows, member_summary, pairwise, tta_summary

from .made import made_predictions


@pytest.fixture(scope="module")
def report() -> dict:
    members = [made_predictions(name, num_views=MAX_PASSES) for name in ("one", "two")]
    single = [each.view(0) for each in members]
    features = single[0].logits[:, 0]
    scores = baseline_scores(features, single[0].labels, features)
    return {
        "what": "made-up predictions",
        "split": "val",
        "members": {each.member: member_summary(each, num_bootstraps=20) for each in members},
        "comparisons": pairwise(members, 20),
        "ensemble": ensemble_summary(single, num_bootstraps=20),
        "baselines": {"member": "one", "num_train": 120, "rows": baseline_rows(scores, members[0], 20)},
        "shortcuts": {"one": shortcut_summary(single[0], {"flip": single[1], "grey": single[0]}, num_bootstraps=20)},
        "problems": {"clips/bad.mp4": "no video stream"},
    }


def test_json_says_the_same_as_the_numbers(report: dict) -> None:
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report, allow_nan=False))
    made = made_predictions("one", num_views=MAX_PASSES)
    right = made.view(0).probabilities().argmax(axis=1) == made.labels
    found = report["members"]["one"]
    assert found["accuracy"] == round(float(right.mean()), 4)
    assert len(found["wrong"]) == (~right).sum()
    assert sum(each["count"] for each in found["by_class"].values()) == len(made)
    assert set(found["by_subcategory"]) == {f"{name}/finer" for name in found["by_class"]}


def test_page_names_everything_measured(report: dict) -> None:
    page = render(report, ["one-confusion.png"])
    for words in (
        "![one confusion](one-confusion.png)",
        "ensemble, equal weights",
        "majority class",
        "linear SVM",
        "McNemar p = ",
        "| flip ⚠ | mirrored |" if "flip" in report["shortcuts"]["one"]["flagged"] else "| flip | mirrored |",
        "`clips/bad.mp4`: no video stream",
        f"| {report['members']['one']['accuracy']:.3f} (",
    ):
        assert words in page


def test_a_member_shows_no_pictures_of_another_whose_name_begins_alike(report: dict) -> None:
    members = {"lite": report["members"]["one"], "lite_2": report["members"]["two"]}
    page = render({**report, "members": members, "shortcuts": {}}, ["lite-recall.png", "lite_2-recall.png"])
    assert page.count("(lite_2-recall.png)") == page.count("(lite-recall.png)") == 1
    assert page.index("(lite-recall.png)") < page.index("## `lite_2`") < page.index("(lite_2-recall.png)")


def test_tables_have_as_many_cells_in_every_row(report: dict) -> None:
    previous = 0
    for line in render(report).splitlines():
        cells = line.count("|")
        if line.startswith("|") and previous:
            assert cells == previous, line
        previous = cells if line.startswith("|") else 0


def test_pictures_are_drawn_for_what_was_measured(report: dict, tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    lines = [{"stage": "head", "step": step, "loss": 1 / step} for step in (25, 50, 25, 50)]
    log.write_text("\n".join(map(json.dumps, [*lines, {"stage": "val", "accuracy": 0.5}])) + '\n{"stage": "he')
    names = draw(report, tmp_path / "plots", {"one": log})
    kinds = {"confusion", "recall", "reliability", "risk_coverage"}
    assert set(names) == {f"{member}-{kind}.png" for member in ("one", "two") for kind in kinds} | {
        "one-shortcuts.png",
        "one-training.png",
    }
    for name in names:
        with Image.open(tmp_path / "plots" / name) as picture:
            assert len(picture.convert("L").getcolors() or []) > 2


def test_a_falling_step_begins_a_run_and_other_lines_are_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    entries = [("tail", 25, 2.0), ("tail", 50, 1.0), ("head", 25, 0.5), ("head", 25, 0.7)]
    lines = [json.dumps({"stage": stage, "step": step, "loss": loss}) for stage, step, loss in entries]
    log.write_text("\n".join(['{"stage": "fold", "fold": 0}', *lines, "[]", "cut {"]))
    assert read_losses(log) == [
        ("tail", [25, 50], [2.0, 1.0]),
        ("head", [25], [0.5]),
        ("head", [25], [0.7]),
    ]


def test_tta_reports_losses_too() -> None:
    made = made_predictions(num_views=MAX_PASSES, skill=3.0)
    made.logits[:, 1:] = np.random.default_rng(0).normal(size=(len(made), 1, 4)) * 9  # they only guess, loudly
    found = tta_summary([made], num_bootstraps=20)
    assert list(found) == ["off", "fast", "full"]
    assert found["fast"]["against_off"]["difference"] < 0
    assert found["full"]["against_off"]["p_value"] < 0.001
    with pytest.raises(ValueError, match="with 1 passes, not 12"):
        tta_summary([made.view(0)])


def test_tta_of_several_members_is_that_of_their_mean() -> None:
    sure = made_predictions(num_views=MAX_PASSES, skill=9.0)
    lost = made_predictions(num_views=MAX_PASSES, skill=0.0)
    both, alone = tta_summary([sure, lost], num_bootstraps=20), tta_summary([sure], num_bootstraps=20)
    mean = (sure.first_views(1).probabilities() + lost.first_views(1).probabilities()) / 2
    assert both["off"]["accuracy"] == round(float((mean.argmax(axis=1) == sure.labels).mean()), 4)
    assert both["off"]["nll"] > alone["off"]["nll"]


def test_a_threshold_chosen_on_validation_is_not_chosen_again() -> None:
    made = made_predictions()
    found = member_summary(made, abstain_below=0.7, num_bootstraps=10)["abstain"]
    assert (found["abstain_below"], found["chosen_on"]) == (0.7, "validation")
    assert found["coverage"] == round(float((made.probabilities().max(axis=1) >= 0.7).mean()), 4)
    assert "0.700 (chosen on validation for 95%)" in abstain_sentence(found)


def test_a_member_gets_its_own_part_of_the_report(report: dict) -> None:
    assert list(for_member(report, "two")["members"]) == ["two"]
    assert "shortcuts" not in for_member(report, "two")
    assert "baselines" not in for_member(report, "two")
    assert for_member(report, "one")["baselines"] == report["baselines"]


def test_contact_sheet_shows_every_clip(tmp_path: Path) -> None:
    red = np.zeros((48, 48, 3), np.uint8)
    red[..., 0] = 255
    contact_sheet([(red, f"clip $x_{i}\none: flat as gaming") for i in range(7)], tmp_path / "sheet.png")
    picture = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    share = ((picture[..., 0] > 250) & (picture[..., 1] < 5)).mean()
    assert share > 7 / 12 * 0.4
