"""What was measured to ``report.json`` and a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

REPORT_NAME = "report.json"
PAGE_NAME = "README.md"


def render(report: Mapping[str, Any], pictures: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        report: ``what``, ``split``, ``members`` and, where measured, ``ensemble``, ``baselines``, ``comparisons``,
            ``shortcuts``, ``warnings``, ``problems``.
        pictures: files beside the page, shown in the section of their member.
    """
    members = report["members"]
    lines = [f"# Evaluation of {', '.join(f'`{name}`' for name in members)}", "", report["what"], ""]
    lines += [*headlines(report), ""]
    lines += [line for warning in report.get("warnings", ()) for line in (f"**{warning}.**", "")]
    for name, member in members.items():
        lines += [f"## `{name}`", "", *_pictures(name, pictures)]
        lines += [*member_lines(member), ""]
        if name in report.get("shortcuts", {}):
            lines += ["### Shortcuts", "", *shortcut_lines(report["shortcuts"][name]), ""]
    for title, key, render_part in (
        ("Ensemble", "ensemble", ensemble_lines),
        ("Baselines", "baselines", baseline_lines),
        ("Pairs", "comparisons", comparison_lines),
    ):
        if report.get(key):
            lines += [f"## {title}", "", *render_part(report[key]), ""]
    if report.get("problems"):
        lines += ["## Not measured", ""]
        lines += [f"- `{name}`: {reason}" for name, reason in report["problems"].items()] + [""]
    return "\n".join(lines)


def headlines(report: Mapping[str, Any]) -> list[str]:
    """One table of everything that answers clips."""
    rows = [(f"`{name}`", member, f"{member['ece']:.3f}") for name, member in report["members"].items()]
    if report.get("ensemble"):
        common = {key: report["ensemble"][key] for key in ("num_clips", "num_works")}
        for key, title in (
            ("equal_weights", "ensemble, equal weights"),
            ("fitted_weights", "ensemble, fitted weights"),
        ):
            rows.append((title, {**common, **report["ensemble"][key]}, ""))
    rows += [(row["baseline"], row, "") for row in report.get("baselines", {}).get("rows", [])]
    return table(
        ("", "clips", "works", "accuracy (95 %)", "macro-F1 (95 %)", "ECE"),
        [(title, found["num_clips"], found["num_works"], *_accuracy_and_f1(found), ece) for title, found, ece in rows],
    )


def member_lines(member: Mapping[str, Any]) -> list[str]:
    """Calibration, abstention, recall by subcategory, views and wrong clips of one member."""
    calibration = member["calibration"]
    lines = table(
        ("temperature", "ECE (95 %)", "ECE, equally filled bins", "NLL", "Brier"),
        [
            (
                title,
                f"{found['ece']:.3f} ({found['ece_interval_95'][0]:.2f}–{found['ece_interval_95'][1]:.2f})",
                f"{found['ece_adaptive']:.3f}",
                f"{found['nll']:.3f}",
                f"{found['brier']:.3f}",
            )
            for title, found in (
                (f"{calibration['temperature']:g}, as shipped", calibration["as_shipped"]),
                ("fitted here, cross-fitted by work", calibration["cross_fitted"]),
            )
        ],
    )
    if "ece_by_chance" in calibration["as_shipped"]:  # earlier releases did not tell
        mean, low, high = calibration["as_shipped"]["ece_by_chance"]
        chance = f"{mean:.3f} ({low:.2f}–{high:.2f})"
        lines += ["", f"So many clips show an ECE of {chance} by chance alone, were every probability right."]
    lines += ["", abstain_sentence(member["abstain"]) + f" AURC {member['aurc']:.3f}.", ""]
    lines += recall_lines(member["by_class"])
    if member["by_subcategory"]:
        finer = recall_lines(member["by_subcategory"])
        lines += ["", f"<details><summary>{len(finer) - 2} subcategories</summary>", "", *finer, "", "</details>"]
    if "tta" in member:
        lines += ["", *tta_lines(member["tta"])]
    wrong = [
        f"`{each['name']}` ({each['true']} as {each['said']}, {each['confidence']:.2f})" for each in member["wrong"]
    ]
    return [*lines, "", "Wrong: " + (", ".join(wrong) or "none") + "."]


def abstain_sentence(found: Mapping[str, Any]) -> str:
    """What the threshold does, and where it was chosen."""
    wanted = f"{found['wanted_accuracy']:.0%}"
    if found["accuracy"] is None:
        return f"No threshold of confidence reaches {wanted} accuracy on these {found['num_clips']} clips."
    low, high = found["accuracy_interval_95"]
    sentence = (
        f"Withholding answers below a confidence of {found['abstain_below']:.3f} (chosen on {found['chosen_on']} for "
        f"{wanted}) answers {found['coverage']:.0%} of the clips, "
        f"{found['accuracy']:.3f} ({low:.2f}–{high:.2f}) of them rightly."
    )
    other = found.get("cross_fitted")
    if other and other["accuracy"] is not None:
        sentence += f" Chosen on other works: {other['coverage']:.0%} answered, {other['accuracy']:.3f} rightly."
    return sentence


def recall_lines(kinds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Recall by kind with Wilson intervals, which take clips for independent."""
    return table(
        ("recall of", "right", "clips", "recall (95 %, Wilson)"),
        [
            (
                kind,
                found["right"],
                found["count"],
                "{:.2f} ({:.2f}–{:.2f})".format(found["recall"], *found["interval_95"]),
            )
            for kind, found in kinds.items()
        ],
    )


def tta_lines(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row a kind of test-time augmentation."""
    cells = []
    for name, found in rows.items():
        against = found.get("against_off")
        change = f"{100 * against['difference']:+.1f} points, {_p(against['p_value'])}" if against else ""
        cells.append((name, *_accuracy_and_f1(found), f"{found['nll']:.3f}", change))
    return table(("tta", "accuracy (95 %)", "macro-F1 (95 %)", "NLL", "against off (McNemar)"), cells)


def shortcut_lines(found: Mapping[str, Any]) -> list[str]:
    """A row a damage, and the verdict."""
    rows = found["rows"]
    lines = table(
        ("damage", "what", "accuracy", "points (95 % by work)", "lost / won", "McNemar", "true class's probability"),
        [_shortcut_cells(row) for row in rows],
    )
    allowed = f"{found['max_cost_points']:g} points"
    verdict = (
        f"More than {allowed}: {', '.join(found['flagged'])}."
        if found["flagged"]
        else f"None costs more than {allowed}."
    )
    return [*lines, "", f"{verdict} McNemar's test is exact and not corrected for {len(rows)} comparisons."]


def _shortcut_cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["interval_95_points"]
    return [
        row["damage"] + (" ⚠" if row["flagged"] else ""),
        row["what"],
        f"{row['accuracy']:.3f}",
        f"{row['change_points']:+.1f} ({low:+.1f} .. {high:+.1f})",
        f"{row['only_right_before']} / {row['only_right_after']}",
        _p(row["mcnemar_p"]),
        f"{row['change_of_true_class_probability']:+.3f}",
    ]


def ensemble_lines(found: Mapping[str, Any]) -> list[str]:
    """Weights, what the ensemble adds to the best member, and what each member adds to it."""
    fitted, best = found["fitted_weights"], found["against_best_member"]
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in fitted["weights"].items())
    temperatures = ", ".join(
        f"{name} {each['as_shipped']:g} (fitted here {each['fitted_here']:g})"
        for name, each in found["temperatures"].items()
    )
    lines = [
        f"Fitted weights ({fitted['fitted_on']}): {weights}. Temperatures: {temperatures}.",
        "",
        f"Equal weights against `{best['best']}`, the best member here: {_difference(best)}.",
        "",
    ]
    if "abstain" in found:  # not in evaluations recorded earlier
        lines += [abstain_sentence(found["abstain"]), ""]
    lines += table(
        ("equal weights without", "accuracy (95 %)", "macro-F1 (95 %)", "against all"),
        [(f"`{row['without']}`", *_accuracy_and_f1(row), _difference(row["change"])) for row in found["leave_one_out"]],
    )
    return [*lines, "", *tta_lines(found["tta"])] if "tta" in found else lines


def baseline_lines(found: Mapping[str, Any]) -> list[str]:
    """How far the member is above each baseline."""
    lines = [f"On features of `{found['member']}`, trained on {found['num_train']} clips. The member against them:", ""]
    return lines + [f"- {row['baseline']}: {_difference(row['member_against_it'])}" for row in found["rows"]]


def comparison_lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every two members."""
    return [f"- `{row['b']}` against `{row['a']}`: {_difference(row)}" for row in found]


def for_member(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a report says about one member and the ensembles it is in: what goes into its bundle."""
    kept = {**report, "members": {name: report["members"][name]}}
    for key in ("shortcuts", "problems"):
        kept.pop(key, None)
    if name in report.get("shortcuts", {}):
        kept["shortcuts"] = {name: report["shortcuts"][name]}
    if report.get("baselines", {}).get("member") != name:
        kept.pop("baselines", None)
    return kept


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (header, ["---"] * len(header), *rows)]


def _pictures(member: str, pictures: Sequence[str]) -> list[str]:
    shown = [
        f"![{Path(name).stem.replace('-', ' ').replace('_', ' ')}]({name})"
        for name in pictures
        if name.startswith(f"{member}-")
    ]
    return [*shown, ""] if shown else []


def _accuracy_and_f1(found: Mapping[str, Any]) -> list[str]:
    cells = []
    for metric in ("accuracy", "macro_f1"):
        low, high = found["interval_95"][metric]
        cells.append(f"{found[metric]:.3f} ({low:.2f}–{high:.2f})")
    return cells


def _difference(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return (
        f"{100 * found['difference']:+.1f} points ({100 * low:+.1f} .. {100 * high:+.1f} by work; "
        f"{found['only_b_right']} clips won, {found['only_a_right']} lost, McNemar {_p(found['p_value'])})"
    )


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
