import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from reelkind.core.taxonomy.classes import subcategories
from reelkind.datasets.yt8m.errors import RecordError, WorkspaceError
from reelkind.datasets.yt8m.records import LabelledId
from reelkind.datasets.yt8m.selection import KEY_BYTES, find_shards, select
from reelkind.datasets.yt8m.workspace import Workspace, read_selection

from .made_records import labels_of, made_id, made_record, made_shard, write_frame_records, write_video_records

NUM = len(subcategories())


def write_videos(path: Path, labels: list[tuple[int, ...]], start: int = 0) -> Path:
    """A video-level shard: one video for each tuple of labels."""
    write_video_records(path, [LabelledId(made_id(start + i), each) for i, each in enumerate(labels)])
    return path


def write_shards(folder: Path, num_shards: int, copies: int) -> list[Path]:
    """Shards with ``copies`` videos of every subcategory each."""
    folder.mkdir(parents=True)
    everything = [labels_of(subcategory) for subcategory in subcategories()] * copies
    return [write_videos(folder / f"train{i}.tfrecord", everything, i * len(everything)) for i in range(num_shards)]


def ruin(shard: Path) -> None:
    """Leave name, size and beginning, and nothing that could be read."""
    content = shard.read_bytes()
    shard.write_bytes(content[:KEY_BYTES] + bytes(len(content) - KEY_BYTES))


def test_every_subcategory_has_its_share(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "in", 3, copies=4)
    selection = select(shards, Workspace(tmp_path / "out"), num_videos=2 * NUM + 5, seed=0)
    chosen = Counter(video.subcategory for video in read_selection(tmp_path / "out" / "selection.csv"))
    names = [subcategory.name for subcategory in subcategories()]
    assert [chosen[name] for name in names] == [3] * 5 + [2] * (NUM - 5)
    assert selection.chosen == chosen
    assert selection.tally.num_videos == 12 * NUM
    assert set(selection.tally.candidates.values()) == {12}


def test_a_subcategory_with_too_few_says_so_and_is_not_made_up_for(tmp_path: Path) -> None:
    first, *others = [labels_of(subcategory) for subcategory in subcategories()]
    shard = write_videos(tmp_path / "a.tfrecord", [first, *others * 5])
    selection = select([shard], Workspace(tmp_path / "out"), num_videos=3 * NUM, seed=0)
    name = subcategories()[0].name
    assert (selection.chosen[name], selection.wanted[name]) == (1, 3)
    assert len(selection.videos) == 3 * NUM - 2


def test_refusals_are_counted_by_reason(tmp_path: Path) -> None:
    shard = write_videos(tmp_path / "a.tfrecord", [(84,), (84, 16, 1), (11,), (), (67,)])
    selection = select([shard], Workspace(tmp_path / "out"), num_videos=NUM, seed=0)
    assert sum(selection.tally.refusals.values()) == 4
    assert selection.tally.refusals["ruled out by its other labels"] == 2
    assert [video.labels for video in selection.videos] == [(67,)]


def test_the_choice_depends_on_videos_and_seed_only(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "in", 3, copies=6)

    def chosen(name: str, order: list[Path], seed: int = 0) -> list[str]:
        return [video.id for video in select(order, Workspace(tmp_path / name), NUM * 2, seed).videos]

    assert chosen("a", shards) == chosen("b", shards[::-1])
    assert chosen("a", shards) != chosen("c", shards, seed=1)


def test_frame_and_video_level_give_the_same_choice(tmp_path: Path) -> None:
    labels = [labels_of(subcategory) for subcategory in subcategories()] * 3
    write_frame_records(tmp_path / "f.tfrecord", [made_record(i, each) for i, each in enumerate(labels)])
    write_videos(tmp_path / "v.tfrecord", labels)
    chosen = [
        [video.id for video in select([tmp_path / f"{level}.tfrecord"], Workspace(tmp_path / level), NUM, 0).videos]
        for level in "fv"
    ]
    assert chosen[0] == chosen[1]


def test_further_shards_are_added_without_reading_the_old_ones(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "in", 4, copies=2)
    at_once = select(shards, Workspace(tmp_path / "once"), NUM, 0)
    select(shards[:2], Workspace(tmp_path / "out"), NUM, 0)
    for shard in shards[:2]:
        ruin(shard)
    later = select(shards, Workspace(tmp_path / "out"), NUM, 0)
    assert later.videos == at_once.videos
    assert later.tally == at_once.tally
    assert not later.failures


def test_shards_that_share_name_and_size_are_both_read(tmp_path: Path) -> None:
    first, second = (write_shards(tmp_path / name, 1, copies=1)[0] for name in "ab")
    write_videos(second, [labels_of(subcategory) for subcategory in subcategories()], start=5000)
    assert first.stat().st_size == second.stat().st_size
    selection = select([first, second], Workspace(tmp_path / "out"), NUM * 2, 0)
    assert selection.tally.num_videos == len(selection.videos) == 2 * NUM


def test_killed_in_the_middle_it_goes_on_where_it_was(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "in", 4, copies=2)
    at_once = select(shards, Workspace(tmp_path / "once"), NUM, 0)
    last = shards[-1].read_bytes()
    shards[-1].unlink()
    os.mkfifo(shards[-1])  # reading it waits for ever
    script = (
        "import sys; from pathlib import Path; from reelkind.datasets.yt8m import selection, workspace; "
        "selection.SECONDS_PER_SAVE = 0; "
        f"selection.select([Path(p) for p in sys.argv[2:]], workspace.Workspace(Path(sys.argv[1])), {NUM}, 0)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "out", *shards])
    state = tmp_path / "out" / "selection.json"
    while not (state.exists() and len(json.loads(state.read_text())["done"]) == 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    shards[-1].unlink()
    shards[-1].write_bytes(last)
    for shard in shards[:3]:
        ruin(shard)
    after = select(shards, Workspace(tmp_path / "out"), NUM, 0)
    assert after.videos == at_once.videos
    assert after.tally == at_once.tally


def test_a_damaged_shard_counts_nothing_and_is_tried_again(tmp_path: Path) -> None:
    good, bad = write_shards(tmp_path / "in", 2, copies=2)
    content = bad.read_bytes()
    bad.write_bytes(content[:-10])
    workspace = Workspace(tmp_path / "out")
    selection = select([bad, good], workspace, NUM, 0)
    assert list(selection.failures) == [bad]
    assert "ends inside the record" in selection.failures[bad]
    assert selection.tally.num_videos == 2 * NUM
    bad.write_bytes(content)
    again = select([bad, good], workspace, NUM, 0)
    assert not again.failures
    assert again.tally.num_videos == 4 * NUM


def test_another_choice_does_not_replace_a_selection(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "in", 1, copies=2)
    workspace = Workspace(tmp_path / "out")
    select(shards, workspace, NUM, 0)
    with pytest.raises(WorkspaceError, match=r"belongs to another selection .*num_videos 46, seed 0"):
        select(shards, workspace, NUM, 1)


@pytest.mark.parametrize("remove_state", [True, False], ids=["not ours", "edited"])
def test_a_selection_made_by_hand_is_not_overwritten(tmp_path: Path, remove_state: bool) -> None:
    shards = write_shards(tmp_path / "in", 1, copies=2)
    workspace = Workspace(tmp_path / "out")
    select(shards, workspace, NUM, 0)
    lines = workspace.selection.read_text().splitlines(keepends=True)
    workspace.selection.write_text("".join(lines[:-1]))
    if remove_state:
        workspace.selection_state.unlink()
    with pytest.raises(WorkspaceError, match=r"selection.csv was not written by this command, or edited since"):
        select(shards, workspace, NUM, 0)
    assert workspace.selection.read_text() == "".join(lines[:-1])


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "in", 1, copies=1)
    workspace = Workspace(tmp_path / "out")
    select(shards, workspace, NUM, 0)
    for damage in ("{", "[]", '{"settings": {"version": 1, "num_videos": 46, "seed": 0}}'):
        workspace.selection_state.write_text(damage)
        with pytest.raises(WorkspaceError, match=r"selection.json is damaged.*delete it"):
            select(shards, workspace, NUM, 0)


def test_shards_are_found_in_folders_once(tmp_path: Path) -> None:
    write_frame_records(tmp_path / "b.tfrecord", made_shard(0, 1)[:1])
    (tmp_path / "deep").mkdir()
    write_frame_records(tmp_path / "deep" / "a.tfrecord.gz", made_shard(0, 1)[:1])
    (tmp_path / "readme.txt").touch()
    found = find_shards([tmp_path, tmp_path / "b.tfrecord"])
    assert [path.name for path in found] == ["b.tfrecord", "a.tfrecord.gz"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=r"no \*.tfrecord or \*.tfrecord.gz files in .*empty"):
        find_shards([tmp_path / "empty"])
    with pytest.raises(RecordError, match=r"no .*missing: give shards"):
        find_shards([tmp_path / "missing"])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("AbCd,gaming,pets,67,a", "csv:2: class 'gaming' has no subcategory 'pets'"),
        ("../x,natural,pets,67,a", "csv:2: '../x' is no YouTube-8M id"),
    ],
)
def test_a_senseless_row_is_named(tmp_path: Path, row: str, problem: str) -> None:
    (tmp_path / "selection.csv").write_text(f"id,class,subcategory,labels,shard\n{row}\n")
    with pytest.raises(WorkspaceError, match=problem):
        read_selection(tmp_path / "selection.csv")
