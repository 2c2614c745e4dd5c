from pathlib import Path

import pytest

from reelkind.datasets.yt8m.errors import WorkspaceError
from reelkind.datasets.yt8m.records import read_frame_records
from reelkind.datasets.yt8m.selection import select
from reelkind.datasets.yt8m.subset import extract
from reelkind.datasets.yt8m.tfrecord import read_records
from reelkind.datasets.yt8m.workspace import Workspace

from .made_records import made_shard, write_frame_records


def test_the_chosen_records_are_copied_as_they_are_and_once(tmp_path: Path) -> None:
    shards = [tmp_path / "train0.tfrecord", tmp_path / "train1.tfrecord.gz"]
    for i, shard in enumerate(shards):
        write_frame_records(shard, made_shard(1000 * i, 2))
    videos = select(shards, Workspace(tmp_path / "out"), num_videos=60, seed=0).videos
    assert extract(shards, videos, tmp_path / "few") == {}
    copies = sorted((tmp_path / "few").glob("*.tfrecord"))
    assert [path.name for path in copies] == ["train0.tfrecord", "train1.tfrecord"]
    ids = {record.id for path in copies for record in read_frame_records(path)}
    assert ids == {video.id for video in videos}
    originals = {record.payload for shard in shards for record in read_records(shard)}
    assert {record.payload for path in copies for record in read_records(path)} <= originals
    for shard in shards:
        shard.write_bytes(b"unreadable by now")
    assert extract(shards, videos, tmp_path / "few") == {}


def test_a_damaged_shard_leaves_no_file_and_is_tried_again(tmp_path: Path) -> None:
    shard = tmp_path / "train0.tfrecord"
    write_frame_records(shard, made_shard(0, 1))
    videos = select([shard], Workspace(tmp_path / "out"), num_videos=46, seed=0).videos
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    assert list(extract([shard], videos, tmp_path / "few")) == [shard]
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == ["selection.csv"]
    shard.write_bytes(content)
    assert extract([shard], videos, tmp_path / "few") == {}
    assert len(list(read_frame_records(tmp_path / "few" / "train0.tfrecord"))) == 46


def test_two_selections_are_not_mixed(tmp_path: Path) -> None:
    shard = tmp_path / "train0.tfrecord"
    write_frame_records(shard, made_shard(0, 2))
    videos = select([shard], Workspace(tmp_path / "out"), num_videos=46, seed=0).videos
    extract([shard], videos, tmp_path / "few")
    with pytest.raises(WorkspaceError, match="records of another selection"):
        extract([shard], videos[1:], tmp_path / "few")


def test_shards_of_one_name_are_not_taken_for_each_other(tmp_path: Path) -> None:
    shards = [tmp_path / "a" / "train0.tfrecord", tmp_path / "b" / "train0.tfrecord"]
    for i, shard in enumerate(shards):
        shard.parent.mkdir()
        write_frame_records(shard, made_shard(1000 * i, 1))
    videos = select(shards, Workspace(tmp_path / "out"), num_videos=92, seed=0).videos
    failures = extract(shards, videos, tmp_path / "few")
    assert "another shard is called train0.tfrecord" in failures[shards[1]]
