"""Features files: what is written comes back, and nothing else passes for it."""

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from reelkind.core.features import CLIP, STREAM, Features, FeaturesError, Recipe, Source
from reelkind.core.files import features_files as files
from reelkind.core.files import whole_files

RECIPE = Recipe(CLIP, ("lite", "lite2"), ("1" * 64, "2" * 64), ("identity", "flip"), 4, 224)


def made(recipe: Recipe = RECIPE, name: str = "a.mp4") -> Features:
    rng = np.random.default_rng(0)
    arrays = {
        member: rng.normal(size=(len(recipe.views), 4, width)).astype(np.float32)
        for member, width in zip(recipe.members, (3, 5), strict=False)
    }
    return Features(recipe, Source(name, "a" * 64, 1234), arrays, np.array([0, 40, 80, 120]), 160)


@pytest.mark.parametrize("name", ["a.mp4", "ü, =\n.mp4"])
@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        replace(RECIPE, kind=STREAM, rate=29.97, members=("x",), weights=("3",)),
        replace(RECIPE, seek="keyframes"),
    ],
)
def test_what_is_written_comes_back(tmp_path: Path, recipe: Recipe, name: str) -> None:
    features = made(recipe, name)
    path = tmp_path / f"a{files.SUFFIX}"
    files.save(features, path)
    found = files.load(path)
    assert (found.recipe, found.source, found.duration_ms) == (recipe, features.source, 160)
    assert found.times_ms.tolist() == [0, 40, 80, 120]
    assert found.times_ms.dtype == np.int64
    assert list(found.arrays) == list(recipe.members)
    for member, array in features.arrays.items():
        assert np.array_equal(found.arrays[member], array)
    assert files.is_features_file(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "no parts are left"


def test_key_frames_that_stood_in_are_remembered() -> None:
    plain = made()
    assert files.from_bytes(files.to_bytes(plain)).num_stand_ins == 0
    assert files.from_bytes(files.to_bytes(replace(plain, num_stand_ins=3))).num_stand_ins == 3


def test_how_frames_were_found_is_told_only_where_it_is_not_the_usual_way() -> None:
    assert "seek" not in RECIPE.describe()  # so that entries of earlier releases are still found
    assert replace(RECIPE, seek="auto").describe()["seek"] == "auto"


def test_others_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / f"a{files.SUFFIX}"
    files.save(made(), path)
    with safetensors.safe_open(path, "np") as opened:
        assert sorted(opened.keys()) == ["features_lite", "features_lite2", "times_ms"]
        assert opened.metadata()["views"] == "identity,flip"
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444, "as any file, not as a temporary one"


def test_every_damaged_byte_is_noticed() -> None:
    data = files.to_bytes(made())
    rng = np.random.default_rng(1)
    for place in {0, 7, 8, 9, len(data) - 1, *rng.integers(0, len(data), 300).tolist()}:
        damaged = bytearray(data)
        damaged[place] ^= 0x41
        with pytest.raises(FeaturesError):
            files.from_bytes(bytes(damaged))


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_file_that_is_cut_off_is_noticed(length: int) -> None:
    with pytest.raises(FeaturesError, match="not a features file, or damaged"):
        files.from_bytes(files.to_bytes(made())[:length])


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match=r"nope: cannot be read: No such file or directory"):
        files.load(tmp_path / "nope")
    other = tmp_path / "weights.safetensors"
    other.write_bytes(safetensors.numpy.save({"weight": np.zeros(3)}))
    with pytest.raises(FeaturesError, match=r"weights\.safetensors: a safetensors file, but not of features"):
        files.load(other)


@pytest.mark.parametrize("name", ["FORMAT_VERSION", "RULE_VERSION"])
def test_files_of_another_release_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    data = files.to_bytes(made())
    monkeypatch.setattr(files, name, "99")
    with pytest.raises(FeaturesError, match="this release has 99: extract again"):
        files.from_bytes(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times_ms": np.array([0, 40])}, r"features_lite is float32\[2, 4, 3\], not float32 \[V, T, D\]"),
        ({"times_ms": np.zeros(0, np.int64)}, r"times_ms is int64\[0\], not int64 \[T\]"),
        ({"arrays": {name: np.zeros((2, 4, 3)) for name in ("lite", "lite2")}}, "features_lite is float64"),
        (
            {"recipe": replace(RECIPE, kind=STREAM)},
            "features of a stream need a rate from 0.001 to 1000, got 0.0",
        ),
        ({"recipe": replace(RECIPE, kind=STREAM, rate=float("nan"))}, "need a rate from 0.001 to 1000, got nan"),
        ({"recipe": replace(RECIPE, kind=STREAM, rate=float("inf"))}, "to 1000, got inf"),
        ({"recipe": replace(RECIPE, weights=("1" * 64,))}, "weights of 1 members, not of 2"),
    ],
    ids=["too-few-times", "no-times", "type", "no-rate", "no-number", "endless-rate", "too-few-weights"],
)
def test_features_of_another_shape_are_refused(changes: dict[str, object], message: str) -> None:
    data = files.to_bytes(replace(made(), **changes))
    with pytest.raises(FeaturesError, match=message):
        files.from_bytes(data)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole_files.os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        files.save(made(), path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("x", b"old")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({}, None, id="the-same"),
        pytest.param({"views": ("identity",)}, None, id="fewer-views"),
        pytest.param({"kind": STREAM}, "features of a clip, needed are those of a stream", id="kind"),
        pytest.param({"weights": ("1" * 64, "3" * 64)}, "asked is lite 111111111111, lite2 333333", id="weights"),
        pytest.param({"members": ("lite",), "weights": ("1" * 64,)}, "asked is lite 1111", id="members"),
        pytest.param({"views": ("identity", "narrow")}, "needed are identity, narrow: extract again", id="views"),
        pytest.param({"num_frames": 16}, "num_frames 4, needed is 16", id="num-frames"),
        pytest.param({"frame_size_px": 260}, "frame_size_px 224, needed is 260", id="frame-size"),
    ],
)
def test_features_fit_only_what_made_them(changes: dict[str, object], message: str | None) -> None:
    wanted = replace(RECIPE, **changes)
    if message is None:
        made().check_made_as(wanted, "a.features")
        return
    with pytest.raises(FeaturesError, match=f"^a.features: .*{message}"):
        made().check_made_as(wanted, "a.features")


def test_a_source_is_its_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"video")
    (tmp_path / "b").write_bytes(b"video")
    (tmp_path / "c").write_bytes(b"other")
    a, b, c = (Source.of(tmp_path / name) for name in "abc")
    assert a.sha256 == b.sha256 != c.sha256
    assert (a.name, a.num_bytes) == ("a", 5)
