"""datasets.seen: a bundle knows the files it was trained on, and passes over those that cannot be read."""

from dataclasses import replace
from pathlib import Path

from reelkind.core.bundle import Bundle
from reelkind.datasets.sample import Sample
from reelkind.datasets.seen import seen_by, write_seen


def test_files_of_training_are_known_by_what_they_hold(served_bundle: Bundle, tmp_path: Path) -> None:
    samples = []
    for name in ("trained", "other"):
        (tmp_path / name).write_text(name)
        samples.append(Sample(tmp_path / name, 0, name, "clips"))
    missing = Sample(tmp_path / "gone", 0, "gone", "clips")
    bundle = replace(served_bundle, folder=tmp_path)
    assert seen_by(bundle, samples) == []  # it does not say

    write_seen(tmp_path, samples[:1])
    (tmp_path / "trained").rename(tmp_path / "copy")
    copy = replace(samples[0], path=tmp_path / "copy")
    assert seen_by(bundle, [copy, samples[1], missing]) == [copy]
