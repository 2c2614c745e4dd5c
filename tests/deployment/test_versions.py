"""A repository on disk while versions change in it: what a server that starts then would serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reelkind.deployment.versions import VersionedRepository
from reelkind.serving.errors import ServingError
from tests.serving import tiny_repository


@pytest.fixture
def store(tmp_path) -> VersionedRepository:
    store = VersionedRepository(tiny_repository.write(tmp_path / "models"))
    with store.lock():
        store.adopt()
    return store


def served(folder: Path) -> dict[str, int]:
    """Composing model -> version, as a server reads it anew; every version is there and is loaded."""
    store = VersionedRepository(folder)
    found = {}
    for name, config in store.ensembles().items():
        assert (folder / name / str(config.version_policy.specific.versions[0])).is_dir()
        for step in config.ensemble_scheduling.step:
            loaded = list(store.config(step.model_name).version_policy.specific.versions)
            assert step.model_version in (loaded or [max(store.versions(step.model_name))])
            found[step.model_name] = step.model_version
    return found


def switch_answer(store: VersionedRepository, version: int) -> None:
    configs = store.ensembles()
    configs["classify"].ensemble_scheduling.step[1].model_version = version
    store.switch(version, configs)


def add_answer(store: VersionedRepository, files: Mapping[str, Path | bytes]) -> int:
    number = store.new_number()
    store.add_version("tiny_answer", number, files)
    return number


def test_a_version_more_changes_nothing_before_the_switch_and_everything_after(store):
    with store.lock():
        assert add_answer(store, {"model.onnx": b"new"}) == 2
        assert served(store.folder) == {"tiny_pixels": 1, "tiny_answer": 1}
        store.load_only("tiny_answer", {1, 2})
        assert served(store.folder) == {"tiny_pixels": 1, "tiny_answer": 1}
        switch_answer(store, 2)
        assert served(store.folder) == {"tiny_pixels": 1, "tiny_answer": 2}
        version = store.folder / "tiny_answer" / "2"
        assert (version / "model.onnx").read_bytes() == b"new"
        assert (version / "model.py").read_bytes() == tiny_repository.RUNNER.read_bytes()
        store.switch_back()
        assert served(store.folder) == {"tiny_pixels": 1, "tiny_answer": 1}


def test_previous_is_what_was_served_before(store):
    assert store.previous() is None
    add_answer(store, {})
    store.load_only("tiny_answer", {1, 2})
    switch_answer(store, 2)
    before = store.previous()["classify"].ensemble_scheduling.step
    assert [step.model_version for step in before] == [1, 1]


def test_tidy_keeps_the_served_version_and_the_one_before(store):
    with store.lock():
        for version in (2, 3):
            assert add_answer(store, {}) == version
            store.load_only("tiny_answer", {version - 1, version})
            switch_answer(store, version)
            store.tidy()
        add_answer(store, {})
        (store.folder / "tiny_answer" / "partial-5").mkdir()
        store.tidy()
    assert store.versions("tiny_answer") == [2, 3]
    assert not (store.folder / "tiny_answer" / "partial-5").exists()
    assert served(store.folder)["tiny_answer"] == 3


@pytest.mark.parametrize("switched", [False, True], ids=["before it", "after it"])
def test_the_number_of_a_change_that_failed_is_never_used_again(store, switched):
    first = add_answer(store, {})
    if switched:
        switch_answer(store, first)
        store.switch_back()
    store.tidy()
    assert store.versions("tiny_answer") == [1]
    assert store.new_number() == first + 1


def test_an_adoption_that_was_cut_short_is_finished(tmp_path):
    folder = tiny_repository.write(tmp_path / "models")
    plain = (folder / "classify" / "config.pbtxt").read_bytes()
    store = VersionedRepository(folder)
    with store.lock():
        store.adopt()
        (folder / "classify" / "config.pbtxt").unlink()
        (folder / "classify" / "config.pbtxt").write_bytes(plain)  # as if killed before this one was linked
        store.adopt()
        add_answer(store, {})
    assert served(folder)["tiny_answer"] == 1


def test_what_a_full_disk_leaves_is_no_version(store, monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError):
        add_answer(store, {"a": b"content", "b": tmp_path / "nowhere"})
    assert store.versions("tiny_answer") == [1]
    store.add_version("tiny_answer", 2, {"a": b"content"})  # what is left over is not in the way
    assert store.versions("tiny_answer") == [1, 2]


def test_only_one_may_change_a_repository_at_a_time(store):
    other = VersionedRepository(store.folder)
    refusal = r"another promotion is at work on .*models: wait until it is done"
    with store.lock(), pytest.raises(ServingError, match=refusal), other.lock():
        pass
    with other.lock():
        pass
