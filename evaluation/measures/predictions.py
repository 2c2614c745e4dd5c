"""What a member said of labelled clips, kept on disk so that nothing is predicted twice."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelkind.core.errors import DataError
from reelkind.core.files.whole_files import whole_file
from reelkind.core.taxonomy.classes import NUM_CLASSES

from .metrics import softmax

_TEXT_FIELDS = ("names", "groups", "subcategories")


@dataclass(frozen=True, eq=False)  # arrays have no single truth
class Predictions:
    """One member's logits on N labelled clips.

    Attributes:
        member: the bundle's name.
        names: N names, unique: path below the data folder.
        logits: float [N, V, K], one row a view; [N, K] is taken for a single view.
        labels: int64 [N], indices in ``CLASSES``.
        groups: N works; clips of a work are not independent.
        subcategories: N finer kinds, "" where there is none.
        temperature: logits are divided by it.
    """

    member: str
    names: Sequence[str]
    logits: np.ndarray
    labels: np.ndarray
    groups: Sequence[str]
    subcategories: Sequence[str]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        logits = np.asarray(self.logits, np.float32)
        object.__setattr__(self, "logits", logits[:, None] if logits.ndim == 2 else logits)
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64))
        count = len(self.names)
        if self.logits.ndim != 3 or self.logits.shape[::2] != (count, NUM_CLASSES) or not self.logits.shape[1]:
            raise ValueError(f"{count} clips need logits [{count}, V, {NUM_CLASSES}], got {list(logits.shape)}")
        if not count == len(self.labels) == len(self.groups) == len(self.subcategories):
            raise ValueError(f"{count} names do not fit {len(self.labels)} labels and {len(self.groups)} groups")
        if count and not 0 <= self.labels.min() <= self.labels.max() < NUM_CLASSES:
            raise ValueError(f"labels must be 0 .. {NUM_CLASSES - 1}, got {self.labels.min()} .. {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_views(self) -> int:
        """V."""
        return int(self.logits.shape[1])

    def probabilities(self, temperature: float | None = None) -> np.ndarray:
        """Float64 [N, K]: softmax of each view at a temperature, the member's own by default, averaged over views."""
        mean: np.ndarray = softmax(self.logits, temperature or self.temperature).mean(axis=1)
        return mean

    def view(self, index: int) -> Predictions:
        """One view alone."""
        return self._replaced(logits=self.logits[:, index : index + 1])

    def first_views(self, count: int) -> Predictions:
        """Only the first views."""
        return self._replaced(logits=self.logits[:, :count])

    def only(self, names: Sequence[str]) -> Predictions:
        """The clips of these names, in this order.

        Raises:
            DataError: if one was not predicted.
        """
        place = {name: i for i, name in enumerate(self.names)}
        missing = [name for name in names if name not in place]
        if missing:
            raise DataError(f"{self.member} has no prediction of {missing[0]} ({len(missing)} missing in all)")
        chosen = [place[name] for name in names]
        return self._replaced(
            logits=self.logits[chosen],
            labels=self.labels[chosen],
            **{field: [getattr(self, field)[i] for i in chosen] for field in _TEXT_FIELDS},
        )

    def _replaced(self, **changes: object) -> Predictions:
        return Predictions(**{**vars(self), **changes})


def common(predictions: Sequence[Predictions]) -> list[Predictions]:
    """The same clips of every member, in the order of the first: what paired comparisons need.

    Raises:
        DataError: if the members share no clip, or do not agree about a label.
    """
    shared = set.intersection(*(set(each.names) for each in predictions))
    aligned = [each.only([name for name in predictions[0].names if name in shared]) for each in predictions]
    if not shared:
        raise DataError(f"{', '.join(each.member for each in predictions)} have no clip in common")
    for each in aligned[1:]:
        if (each.labels != aligned[0].labels).any():
            raise DataError(f"{each.member} and {aligned[0].member} were measured with different labels")
    return aligned


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Different clips of one member, one part after another; the first part's name and temperature count."""
    return Predictions(
        member=parts[0].member,
        logits=np.concatenate([part.logits for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        temperature=parts[0].temperature,
        **{field: [text for part in parts for text in getattr(part, field)] for field in _TEXT_FIELDS},
    )


def save(predictions: Predictions, path: Path) -> None:
    """Write an ``.npz``; a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = {field: np.array(getattr(predictions, field), dtype=np.str_) for field in _TEXT_FIELDS}
    with whole_file(path) as file:
        np.savez_compressed(
            file,
            member=np.array(predictions.member),
            logits=predictions.logits,
            labels=predictions.labels,
            temperature=np.array(predictions.temperature),
            **texts,  # type: ignore[arg-type]
        )


def load(path: Path) -> Predictions:
    """Read what `save` wrote.

    Raises:
        DataError: if the file is missing, damaged, or something else.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Predictions(
                member=str(arrays["member"]),
                logits=arrays["logits"],
                labels=arrays["labels"],
                temperature=float(arrays["temperature"]),
                **{field: arrays[field].tolist() for field in _TEXT_FIELDS},
            )
    except FileNotFoundError:
        raise DataError(f"no predictions in {path}: `reelkind evaluate` writes them") from None
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no predictions ({error}): delete it and evaluate again") from error
