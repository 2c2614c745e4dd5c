"""Shards of either level to a balanced choice of videos, in flat memory and resumable shard by shard."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reelkind.core.files.whole_files import write_whole
from reelkind.core.taxonomy.classes import subcategories

from .errors import RecordError, WorkspaceError
from .labelling import Refusal, subcategory_of
from .records import read_labels
from .sampling import BottomK
from .workspace import Selected, Workspace, read_selection, write_selection

logger = logging.getLogger(__name__)

SHARD_PATTERNS = ("*.tfrecord", "*.tfrecord.gz")
SECONDS_PER_SAVE = 5.0
KEY_BYTES = 4096
STATE_VERSION = 1


@dataclass
class Tally:
    """What some shards hold.

    Attributes:
        num_videos: records read.
        candidates: videos that fit, by subcategory.
        refusals: videos that do not, by the reason (`Refusal` values).
    """

    num_videos: int = 0
    candidates: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Selection:
    """The choice and how it came about.

    Attributes:
        videos: in the order of the taxonomy.
        wanted: videos each subcategory should have.
        tally: over all shards read so far, those of earlier runs included.
        failures: shards left out, and why; the next run tries them again.
    """

    videos: Sequence[Selected]
    wanted: dict[str, int]
    tally: Tally
    failures: dict[Path, str]

    @property
    def chosen(self) -> Counter[str]:
        """Number of chosen videos by subcategory."""
        return Counter(video.subcategory for video in self.videos)


def find_shards(paths: Iterable[Path]) -> list[Path]:
    """Files as given, and the ``.tfrecord`` and ``.tfrecord.gz`` files of folders at any depth, sorted.

    Raises:
        RecordError: if a path does not exist or a folder holds none.
    """
    shards: list[Path] = []
    for path in paths:
        found = sorted({shard for pattern in SHARD_PATTERNS for shard in path.rglob(pattern)})
        if not path.exists():
            raise RecordError(f"no {path}: give shards of YouTube-8M or folders of them")
        if path.is_dir() and not found:
            raise RecordError(f"no {' or '.join(SHARD_PATTERNS)} files in {path}")
        shards += found if path.is_dir() else [path]
    return list(dict.fromkeys(shards))


def select(shards: Sequence[Path], workspace: Workspace, num_videos: int, seed: int) -> Selection:
    """Choose videos evenly over the subcategories and write ``selection.csv``.

    The choice is a function of the videos read, ``num_videos`` and ``seed``; order, number and level of the shards do
    not matter. Shards that an earlier run has read (same name, size and beginning) are not read again.

    Args:
        shards: files of either level.
        workspace: gets selection.csv and its state; created.
        num_videos: in total; a subcategory that has too few is not made up for by others.
        seed: of the choice.

    Raises:
        WorkspaceError: if the folder has a selection made with other settings, or edited since.
    """
    workspace.folder.mkdir(parents=True, exist_ok=True)
    progress = _Progress.load(workspace, num_videos, seed)
    failures: dict[Path, str] = {}
    try:
        for shard in tqdm(shards, desc="select", unit="shard", disable=None):
            try:
                key = _key(shard)
                if key not in progress.done:
                    progress.take(key, _read(shard))
            except RecordError as error:
                failures[shard] = str(error)
                logger.info("left out: %s", error)
            progress.save(at_most_every_s=SECONDS_PER_SAVE)
    finally:
        progress.save()
    videos = progress.chosen()
    progress.expect(videos)
    write_selection(workspace.selection, videos)
    return Selection(videos, progress.wanted, progress.tally, failures)


def _key(shard: Path) -> str:
    """What tells a shard from others without reading it: copies in other folders are the same shard."""
    if not shard.is_file():
        return shard.name
    try:
        with shard.open("rb") as file:
            beginning = hashlib.sha256(file.read(KEY_BYTES)).hexdigest()
    except OSError as error:
        raise RecordError(f"{shard}: cannot be read: {error.strerror}") from error
    return f"{shard.name}:{shard.stat().st_size}:{beginning[:16]}"


def _read(shard: Path) -> list[Selected | Refusal]:
    """All videos of a shard, judged; a shard counts whole or not at all."""
    judged: list[Selected | Refusal] = []
    for record in read_labels(shard):
        verdict = subcategory_of(record.labels)
        if isinstance(verdict, Refusal):
            judged.append(verdict)
        else:
            judged.append(Selected(record.id, verdict.class_name, verdict.name, record.labels, shard.name))
    return judged


class _Progress:
    """The samples so far and the shards they come from; on disk as one JSON file, replaced whole."""

    def __init__(self, workspace: Workspace, num_videos: int, seed: int) -> None:
        names = [subcategory.name for subcategory in subcategories()]
        share, rest = divmod(num_videos, len(names))
        self.wanted = {name: share + (i < rest) for i, name in enumerate(names)}
        self.settings = {"version": STATE_VERSION, "num_videos": num_videos, "seed": seed}
        self.samples = {name: BottomK[Selected](size, seed) for name, size in self.wanted.items()}
        self.done: set[str] = set()
        self.tally = Tally()
        self._path = workspace.selection_state
        self._saved_s = time.monotonic()
        self._known_digests: list[str] = []  # of what selection.csv may hold if nobody else wrote it

    @classmethod
    def load(cls, workspace: Workspace, num_videos: int, seed: int) -> _Progress:
        progress = cls(workspace, num_videos, seed)
        state, selection = workspace.selection_state, workspace.selection
        raw = _read_state(state) if state.exists() else None
        if raw is not None:
            try:
                progress._restore(raw)
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(state, error) from error
        if selection.exists() and _digest(read_selection(selection)) not in progress._known_digests:
            raise WorkspaceError(f"{selection} was not written by this command, or edited since: move it away first")
        return progress

    def _restore(self, raw: dict[str, Any]) -> None:
        if raw.get("settings") != self.settings:
            was = ", ".join(f"{key} {value}" for key, value in raw.get("settings", {}).items())
            raise WorkspaceError(f"{self._path} belongs to another selection ({was}): give another --out or delete it")
        self.done = set(raw["done"])
        self.tally = Tally(raw["num_videos"], Counter(raw["candidates"]), Counter(raw["refusals"]))
        self._known_digests = raw["selection_digests"]
        for entry in raw["videos"]:
            video = Selected(**{**entry, "labels": tuple(entry["labels"])})
            self.samples[video.subcategory].offer(video.id, video)

    def take(self, shard_key: str, judged: Iterable[Selected | Refusal]) -> None:
        for verdict in judged:
            self.tally.num_videos += 1
            if isinstance(verdict, Refusal):
                self.tally.refusals[verdict.value] += 1
            else:
                self.tally.candidates[verdict.subcategory] += 1
                self.samples[verdict.subcategory].offer(verdict.id, verdict)
        self.done.add(shard_key)

    def chosen(self) -> list[Selected]:
        return [video for sample in self.samples.values() for video in sample.items()]

    def expect(self, videos: Sequence[Selected]) -> None:
        """Remember what is about to be written to selection.csv, so that a kill at any moment is harmless."""
        self._known_digests = [*self._known_digests[-1:], _digest(videos)]
        self.save()

    def save(self, at_most_every_s: float = 0.0) -> None:
        if time.monotonic() - self._saved_s < at_most_every_s:
            return
        state = {
            "settings": self.settings,
            "selection_digests": self._known_digests,
            "num_videos": self.tally.num_videos,
            "candidates": self.tally.candidates,
            "refusals": self.tally.refusals,
            "done": sorted(self.done),
            "videos": [asdict(video) for video in self.chosen()],
        }
        write_whole(self._path, json.dumps(state), durable=True)
        self._saved_s = time.monotonic()


def _read_state(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, error) from error
    if not isinstance(raw, dict):
        raise _damaged(path, "no object")
    return raw


def _damaged(path: Path, reason: object) -> WorkspaceError:
    return WorkspaceError(f"{path} is damaged ({reason}): delete it, and the shards are read again")


def _digest(videos: Sequence[Selected]) -> str:
    return hashlib.sha256(repr(videos).encode()).hexdigest()
