from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reelkind.datasets.checking import find_all
from reelkind.datasets.exclusions import Finding, Reason
from reelkind.datasets.fingerprints import fingerprint
from reelkind.datasets.inspection import Inspection
from reelkind.datasets.sample import Sample

from .made import scene


def looks(seed: int, size: tuple[int, int] = (224, 224)) -> np.ndarray:
    small = Image.fromarray(scene(seed)).resize(size)
    return fingerprint(np.asarray(small.resize((224, 224)))[None])


class Folder:
    """Samples and what was seen of them, without files."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.seen: dict[Path, Inspection] = {}

    def add(self, name: str, *, split: str = "train", label: int = 0, work: str = "", **kept) -> Path:
        path = Path(name)
        near_val, sha256 = kept.pop("near_val", False), kept.pop("listed_sha256", "")
        work = work or f"the work {name}"
        self.samples.append(Sample(path, label, work, "clips", split, near_val, sha256=sha256))
        number = len(self.samples)
        kept = {"sha256": f"{number:064}", "duration_s": 5.0, "fingerprint": looks(1000 + number), **kept}
        self.seen[path] = Inspection(path, **kept)
        return path

    def find(self, **options) -> list[Finding]:
        return find_all(self.samples, self.seen, **options)


@pytest.fixture
def folder() -> Folder:
    return Folder()


def brief(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.path.name, finding.reason.value, str(finding.other)) for finding in findings]


def test_nothing_is_found_in_sound_data(folder: Folder) -> None:
    for i in range(12):
        folder.add(f"{i}.mp4", split=("train", "val", "test")[i % 3], label=i % 4)
    assert folder.find() == []


def test_unusable_files_are_found_each_for_its_reason(folder: Folder) -> None:
    folder.add("gone.mp4", missing=True, problem="no such file", sha256="")
    folder.add("bad.mp4", problem="damaged")
    folder.add("other.mp4", listed_sha256="f" * 64)
    folder.add("short.mp4", duration_s=0.4)
    folder.add("picture.jpg", duration_s=0.0)
    findings = folder.find()
    assert brief(findings) == [
        ("gone.mp4", "missing", ""),
        ("bad.mp4", "unreadable", ""),
        ("other.mp4", "hash_mismatch", ""),
        ("short.mp4", "too_short", ""),
    ]
    assert findings[3].detail == "0.40 s, less than 1"
    assert len(folder.find(min_duration_s=0.3)) == 3


@pytest.mark.parametrize(
    ("splits", "lost"),
    [(("train", "train"), "b"), (("train", "val"), "a"), (("test", "val"), "b"), (("val", "test"), "a")],
)
def test_of_two_identical_files_the_one_that_measures_stays(folder: Folder, splits: tuple[str, str], lost: str) -> None:
    for name, split in zip("ab", splits, strict=True):
        folder.add(f"{name}.mp4", split=split, sha256="0" * 64)
    kept = "a" if lost == "b" else "b"
    assert brief(folder.find()) == [(f"{lost}.mp4", "duplicate", f"{kept}.mp4")]


def test_identical_files_of_different_classes_all_go(folder: Folder) -> None:
    for label, name in enumerate(["a.mp4", "b.mp4", "c.mp4"]):
        folder.add(name, label=min(label, 1), sha256="0" * 64)
    findings = folder.find()
    assert [finding.path.name for finding in findings] == ["a.mp4", "b.mp4", "c.mp4"]
    assert all(finding.path != finding.other for finding in findings)
    assert [finding.detail.split("; ")[1].split(",")[0] for finding in findings[:2]] == [
        "animation and gaming",
        "gaming and animation",
    ]


def test_alike_files_in_two_splits_leak_and_training_loses(folder: Folder) -> None:
    folder.add("held.mp4", split="val", fingerprint=looks(1))
    folder.add("copy.mp4", fingerprint=looks(1, (60, 50)))
    folder.add("again.mp4", fingerprint=looks(1, (50, 60)))
    findings = folder.find()
    assert {(name, reason) for name, reason, _ in brief(findings)} == {
        ("copy.mp4", "leak"),
        ("again.mp4", "leak"),
        ("again.mp4", "near_duplicate"),
    }
    assert "same class, other work, train and val" in findings[0].detail


def test_what_training_leaves_out_anyway_is_no_leak(folder: Folder) -> None:
    folder.add("held.mp4", split="val", fingerprint=looks(1))
    folder.add("near.mp4", near_val=True, fingerprint=looks(1))
    (finding,) = folder.find()
    assert (finding.reason, finding.detail.endswith("near_val")) == (Reason.NEAR_DUPLICATE, True)


def test_near_val_is_no_excuse_for_being_near_test(folder: Folder) -> None:
    folder.add("held.mp4", split="test", fingerprint=looks(1))
    folder.add("near.mp4", near_val=True, fingerprint=looks(1))
    assert brief(folder.find()) == [("near.mp4", "leak", "held.mp4")]


def test_links_join_all_alike_files_and_no_more(folder: Folder) -> None:
    for i in range(4):
        folder.add(f"{i}.mp4", fingerprint=looks(1, (60 + i, 60)))
    findings = folder.find()
    assert [finding.reason for finding in findings] == [Reason.NEAR_DUPLICATE] * 3
    assert {finding.path.name for finding in findings} | {str(finding.other) for finding in findings} == {
        f"{i}.mp4" for i in range(4)
    }


def test_what_a_pair_has_in_common_is_said(folder: Folder) -> None:
    for label in (2, 3):
        folder.add(f"{label}.mp4", label=label, work="The One", fingerprint=looks(1))
    (finding,) = folder.find()
    assert finding.detail == "100% alike; flat and natural, same work, same split"


def test_a_file_that_goes_anyway_is_compared_no_further(folder: Folder) -> None:
    folder.add("a.mp4", fingerprint=looks(1))
    folder.add("b.mp4", fingerprint=looks(1), duration_s=0.1)
    assert brief(folder.find()) == [("b.mp4", "too_short", "")]


def test_a_wrong_label_is_found(folder: Folder) -> None:
    pytest.importorskip("sklearn", reason="the extra `train` is not installed")
    rng = np.random.default_rng(0)
    for i in range(60):
        shown = i % 2
        features = (np.array([4.0, -4.0]) if shown else np.array([-4.0, 4.0])) + rng.normal(size=2)
        label = 1 - shown if i == 7 else shown
        folder.add(f"{i}.mp4", label=label, work=f"work {i // 3:02}", features=features.astype(np.float32))
    (finding,) = folder.find()
    assert brief([finding]) == [("7.mp4", "mislabelled", "gaming")]
    assert finding.detail.startswith("labelled animation")


def test_labels_of_one_class_are_not_judged(folder: Folder) -> None:
    pytest.importorskip("sklearn", reason="the extra `train` is not installed")
    for i in range(6):
        folder.add(f"{i}.mp4", features=np.ones(2, np.float32))
    assert folder.find() == []
