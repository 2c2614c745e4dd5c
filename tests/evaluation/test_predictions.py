import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reelkind.core.errors import DataError
from reelkind.evaluation.measures import predictions as predictions_on_disk
from reelkind.evaluation.measures.metrics import softmax
from reelkind.evaluation.measures.predictions import Predictions, common

from .made import made_predictions


def test_predictions_survive_the_disk(tmp_path: Path) -> None:
    made = dataclasses.replace(made_predictions(num_views=2), temperature=0.83, member="größe")
    path = tmp_path / "new" / "ü.npz"
    predictions_on_disk.save(made, path)
    read = predictions_on_disk.load(path)
    assert (read.logits == made.logits).all()
    assert (read.labels == made.labels).all()
    for field in ("member", "names", "groups", "subcategories", "temperature"):
        assert getattr(read, field) == getattr(made, field)
    assert [file.name for file in path.parent.iterdir()] == ["ü.npz"]


@pytest.mark.parametrize(
    "content", [None, b"", b"PK\x03\x04 cut off", b"hello"], ids=["missing", "empty", "cut", "text"]
)
def test_what_holds_no_predictions_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "predictions.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"predictions\.npz"):
        predictions_on_disk.load(path)


def test_another_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataError, match="holds no predictions"):
        predictions_on_disk.load(tmp_path / "other.npz")


def test_views_are_averaged_as_probabilities_at_the_members_temperature() -> None:
    made = dataclasses.replace(made_predictions(num_views=2), temperature=2.0)
    expected = (softmax(made.logits[:, 0], 2.0) + softmax(made.logits[:, 1], 2.0)) / 2
    assert made.probabilities() == pytest.approx(expected)
    assert made.view(1).probabilities() == pytest.approx(softmax(made.logits[:, 1], 2.0))


def test_logits_without_views_are_one_view() -> None:
    made = made_predictions()
    flat = dataclasses.replace(made, logits=made.logits[:, 0])
    assert flat.logits.shape == made.logits.shape


@pytest.mark.parametrize(
    ("field", "value"),
    [("logits", np.zeros((3, 4))), ("labels", np.zeros(2)), ("labels", np.full(120, 4)), ("groups", ["a"])],
    ids=["logits", "few labels", "unknown class", "groups"],
)
def test_what_does_not_fit_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        dataclasses.replace(made_predictions(), **{field: value})


def test_common_clips_come_in_one_order() -> None:
    first = made_predictions("one")
    second = made_predictions("two").only(list(reversed(first.names[10:])))
    a, b = common([first, second])
    assert a.names == b.names == first.names[10:]
    assert (b.logits == made_predictions("two").logits[10:]).all()


def test_members_that_share_nothing_or_disagree_about_labels_are_refused() -> None:
    made = made_predictions()
    with pytest.raises(DataError, match="no clip in common"):
        common([made.only(made.names[:5]), made.only(made.names[5:])])
    with pytest.raises(DataError, match="different labels"):
        common([made, dataclasses.replace(made, labels=(made.labels + 1) % 4)])
    with pytest.raises(DataError, match=r"no prediction of other\.mp4"):
        made.only(["other.mp4"])


def test_no_clips_are_predictions_too() -> None:
    assert len(Predictions("none", [], np.zeros((0, 1, 4)), np.zeros(0), [], [])) == 0
