"""The working folder from selection to manifest: which file holds what, and how each is written.

- selection.csv: the chosen videos; selection.json: state of the selection
- resolved.jsonl: answers of the id look-up; fetched.jsonl: what became of each download
- videos/CLASS/SUBCATEGORY/YOUTUBE_ID.*; archive.txt: yt-dlp's own list of what it has
- dead.csv: what is gone, and why; manifest.csv: what ``reelkind dataset`` goes on with
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reelkind.core.taxonomy.classes import subcategories

from ..samples import MANIFEST_NAME
from ..tables import read_table, write_table
from .errors import WorkspaceError


@dataclass(frozen=True)
class Selected:
    """One chosen video.

    Attributes:
        id: YouTube-8M's, 4 characters.
        class_name: one of ``CLASSES``.
        subcategory: one of the taxonomy's 46.
        labels: all its vocabulary indices.
        shard: name of the file it was found in.
    """

    id: str
    class_name: str
    subcategory: str
    labels: tuple[int, ...]
    shard: str


@dataclass(frozen=True)
class Workspace:
    """Names of the files in a working folder."""

    folder: Path

    @property
    def selection(self) -> Path:
        """The chosen videos, CSV."""
        return self.folder / "selection.csv"

    @property
    def selection_state(self) -> Path:
        """Which shards were read and what they gave, JSON."""
        return self.folder / "selection.json"

    @property
    def resolved(self) -> Path:
        """Answers of the look-up, a journal."""
        return self.folder / "resolved.jsonl"

    @property
    def fetched(self) -> Path:
        """Outcomes of the downloads, a journal."""
        return self.folder / "fetched.jsonl"

    @property
    def archive(self) -> Path:
        """yt-dlp's download archive."""
        return self.folder / "archive.txt"

    @property
    def videos(self) -> Path:
        """The downloads."""
        return self.folder / "videos"

    @property
    def dead(self) -> Path:
        """Videos that are gone, CSV."""
        return self.folder / "dead.csv"

    @property
    def manifest(self) -> Path:
        """The videos that are here, CSV."""
        return self.folder / MANIFEST_NAME


_ID = re.compile(r"[A-Za-z0-9_-]{2,}")  # 4 characters in the set of 2018 and 2019; goes into a URL
SELECTION_COLUMNS = ("id", "class", "subcategory", "labels", "shard")


def write_selection(path: Path, videos: Iterable[Selected]) -> None:
    """Write ``selection.csv``."""
    rows = (
        (video.id, video.class_name, video.subcategory, " ".join(map(str, video.labels)), video.shard)
        for video in videos
    )
    write_table(path, SELECTION_COLUMNS, (dict(zip(SELECTION_COLUMNS, row, strict=True)) for row in rows))


def read_selection(path: Path) -> list[Selected]:
    """Read ``selection.csv``, which may have been edited by hand.

    Raises:
        WorkspaceError: if it is missing, or a row makes no sense.
        DataError: if it cannot be read or lacks a column.
    """
    if not path.exists():
        raise WorkspaceError(f"no {path}: run `reelkind dataset yt8m select` first")
    table = read_table(path, SELECTION_COLUMNS)
    class_of = {subcategory.name: subcategory.class_name for subcategory in subcategories()}
    videos: dict[str, Selected] = {}
    for number, row in enumerate(table.rows):
        video_id, class_name, subcategory = row["id"], row["class"], row["subcategory"]
        if class_of.get(subcategory) != class_name:
            raise WorkspaceError(f"{table.where(number)}: class {class_name!r} has no subcategory {subcategory!r}")
        if not _ID.fullmatch(video_id):
            raise WorkspaceError(f"{table.where(number)}: {video_id!r} is no YouTube-8M id")
        labels = tuple(int(label) for label in row["labels"].split() if label.isdecimal())
        videos[video_id] = Selected(video_id, class_name, subcategory, labels, row["shard"])
    return list(videos.values())
