import numpy as np
import pytest

from reelkind.evaluation.ensembling import cross_fitted_mix, ensemble_summary, fit_weights, mix
from reelkind.evaluation.measures.calibration import nll

from .made import made_predictions


def test_weights_have_the_smallest_loss_of_all_on_the_simplex() -> None:
    members = np.stack([made_predictions(name, skill=skill).probabilities() for name, skill in (("a", 2), ("b", 1))])
    labels = made_predictions().labels
    weights = fit_weights(members, labels)
    assert weights.sum() == pytest.approx(1)
    losses = {share: nll(mix(members, np.array([share, 1 - share])), labels) for share in np.linspace(0, 1, 101)}
    best = min(losses, key=lambda share: losses[share])
    assert weights[0] == pytest.approx(best, abs=0.011)


def test_a_member_that_guesses_gets_next_to_nothing_and_twins_share() -> None:
    good, labels = made_predictions("good").probabilities(), made_predictions().labels
    noise = np.random.default_rng(0).dirichlet(np.ones(4), len(labels))
    assert fit_weights(np.stack([good, noise]), labels)[1] < 0.1
    assert fit_weights(np.stack([good, good]), labels) == pytest.approx([0.5, 0.5])


def test_a_clips_weights_are_not_fitted_on_its_own_work() -> None:
    made = made_predictions(num_works=5, clips_per_work=4)
    members = np.stack([made.probabilities(), made_predictions("two", 5, 4, skill=0.5).probabilities()])
    first = np.array([group == "work 0" for group in made.groups])
    other_labels = np.where(first, (made.labels + 1) % 4, made.labels)
    before, after = (cross_fitted_mix(members, labels, made.groups) for labels in (made.labels, other_labels))
    assert after[first] == pytest.approx(before[first])
    assert after[~first] != pytest.approx(before[~first])


def test_summary_of_three_members() -> None:
    members = [made_predictions(name, skill=1.2) for name in ("one", "two", "three")]
    found = ensemble_summary(members, num_bootstraps=50)
    assert list(found["members"]) == ["one", "two", "three"]
    singles = [each["accuracy"] for each in found["members"].values()]
    assert found["equal_weights"]["accuracy"] > max(singles)  # independent errors: averaging must help
    assert [row["without"] for row in found["leave_one_out"]] == ["one", "two", "three"]
    pair = (members[1].probabilities() + members[2].probabilities()).argmax(axis=1) == members[0].labels
    assert found["leave_one_out"][0]["accuracy"] == round(float(pair.mean()), 4)
    best = found["against_best_member"]
    assert found["members"][best["best"]]["accuracy"] == max(singles)
    assert sum(found["fitted_weights"]["weights"].values()) == pytest.approx(1, abs=1e-3)


def test_weights_fitted_on_validation_are_used_as_they_are() -> None:
    members = [made_predictions(name, skill=skill) for name, skill in (("one", 2.0), ("two", 0.5))]
    elsewhere = [made_predictions(name, skill=skill, seed=7) for name, skill in (("one", 2.0), ("two", 0.5))]
    found = ensemble_summary(members, fitted_on=elsewhere, num_bootstraps=50)["fitted_weights"]
    weights = fit_weights(np.stack([each.probabilities() for each in elsewhere]), elsewhere[0].labels)
    assert list(found["weights"].values()) == pytest.approx(weights.tolist(), abs=1e-4)
    mixed = mix(np.stack([each.probabilities() for each in members]), weights)
    assert found["accuracy"] == round(float((mixed.argmax(axis=1) == members[0].labels).mean()), 4)
