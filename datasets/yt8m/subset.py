"""Frame-level shards to small ones that hold the chosen videos only: 1.5 TB to a few GB."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from .errors import RecordError, WorkspaceError
from .records import parse_id
from .tfrecord import read_records, write_records
from .workspace import Selected, read_selection, write_selection

logger = logging.getLogger(__name__)

SELECTION_NAME = "selection.csv"


def extract(shards: Sequence[Path], videos: Sequence[Selected], out: Path) -> dict[Path, str]:
    """Copy the records of some videos, byte for byte, into files of the shards' names.

    A shard whose file exists is not read again, so an interrupted run goes on where it was.

    Args:
        shards: frame-level files.
        videos: which are copied.
        out: folder of the new files and of a copy of the selection; created.

    Returns:
        Shards left out, and why.

    Raises:
        WorkspaceError: if ``out`` holds the records of another selection.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = out / SELECTION_NAME
    if kept.exists() and read_selection(kept) != list(videos):
        raise WorkspaceError(f"{out} holds the records of another selection: give another --out or delete it")
    write_selection(kept, videos)
    wanted = {video.id for video in videos}
    failures: dict[Path, str] = {}
    taken: set[Path] = set()
    for shard in tqdm(shards, desc="features", unit="shard", disable=None):
        target = out / shard.name.removesuffix(".gz")
        is_second, is_done = target in taken, target.exists()
        taken.add(target)
        if is_second:
            failures[shard] = f"{shard}: another shard is called {target.name}: extract it into another folder"
        if is_second or is_done:
            continue
        try:
            write_records(target, _payloads(shard, wanted))
        except RecordError as error:
            failures[shard] = str(error)
            logger.info("left out: %s", error)
    return failures


def _payloads(shard: Path, wanted: set[str]) -> Iterator[bytes]:
    for record in read_records(shard):
        if parse_id(shard, record).id in wanted:
            yield record.payload
