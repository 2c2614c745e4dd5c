"""A tree ``FOLDER/<class>/[<subcategory>/][<work>/]file`` to ``FOLDER/manifest.csv``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from reelkind.core.errors import DataError
from reelkind.core.taxonomy.classes import CLASSES, subcategories

from .sample import content_hash
from .samples import MANIFEST_NAME, REQUIRED_COLUMNS, samples_of
from .tables import Table, read_table, write_table

COLUMNS = ("path", "class", "subcategory", "work", "split", "licence", "sha256")

_COUNTED = "part|clip|scene|shot|season|episode|ep|take|cut|segment|seg|frame|copy|no|nr|pt|s|e|x"
_COUNTER = re.compile(
    rf"(?:(?:(?:^|[\s_.-]+|(?<=\d))(?:{_COUNTED})[\s_.#-]*|[\s_.#-]*)(?:\d+|\(\d+\)))+$", re.IGNORECASE
)


@dataclass(frozen=True)
class Layout:
    """How names of folders and files are read.

    Attributes:
        suffixes: lower-case endings of files that are media, e.g. ``".mp4"``.
        any_subcategory: the first folder below a class is a subcategory whatever its name.
        work_pattern: searched in the path below class and subcategory; its group ``work``, else its first, names the
            work. Where it is not found, folders and file names decide as without it.
    """

    suffixes: Collection[str]
    any_subcategory: bool = False
    work_pattern: re.Pattern[str] | None = None

    def __post_init__(self) -> None:
        if self.work_pattern is not None and not self.work_pattern.groups:
            raise DataError(f"the work pattern {self.work_pattern.pattern!r} has no group: put (…) around the work")


@dataclass
class Listing:
    """What a tree holds.

    Attributes:
        rows: a manifest row a media file, without its hash.
        skipped: what is no part of the data set, as (path below the folder, reason).
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Update:
    """What a manifest became.

    Attributes:
        table: the manifest as written.
        num_new: rows appended.
        vanished: paths of rows whose file is gone; the rows stay.
        skipped: see ``Listing``, and files that could not be read.
        num_failed: how many of these are files that could not be read.
    """

    table: Table
    num_new: int
    vanished: list[str]
    skipped: list[tuple[str, str]]
    num_failed: int


def list_tree(folder: Path, layout: Layout) -> Listing:
    """Look at names only; sorted, hidden files and folders are passed over.

    Raises:
        DataError: if the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: name the one that holds {', '.join(CLASSES)}")
    listing = Listing()
    for entry in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        class_name = entry.name.lower()
        if not entry.is_dir():
            if entry.suffix.lower() in layout.suffixes:
                listing.skipped.append((entry.name, "lies in no class folder"))
        elif class_name not in CLASSES:
            listing.skipped.append((f"{entry.name}/", f"is no class (known: {', '.join(CLASSES)})"))
        else:
            _list_class(entry, class_name, layout, listing)
    return listing


def _list_class(folder: Path, class_name: str, layout: Layout, listing: Listing) -> None:
    for path, problem in _files_below(folder):
        name = path.relative_to(folder.parent).as_posix()
        if problem:
            listing.skipped.append((name, problem))
        elif path.suffix.lower() not in layout.suffixes:
            listing.skipped.append((name, "is no video or picture"))
        else:
            below = PurePosixPath(path.relative_to(folder).as_posix())
            subcategory, work = subcategory_and_work(below, class_name, layout)
            cells = {"path": name, "class": class_name, "subcategory": subcategory, "work": work}
            listing.rows.append(dict.fromkeys(COLUMNS, "") | cells)


def _files_below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files at any depth, sorted, links to folders followed once; with a reason where a folder cannot be read."""
    problems: list[tuple[Path, str]] = []
    visited: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        problems.append((Path(error.filename), f"cannot be looked into: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = os.stat(place)  # noqa: PTH116
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        yield from ((Path(place, name), "") for name in sorted(files) if not name.startswith("."))
    yield from problems


def subcategory_and_work(path: PurePosixPath, class_name: str, layout: Layout) -> tuple[str, str]:
    """What a path below a class folder says.

    The subcategory is the first folder if it is one of the taxonomy's of this class. The work is what the pattern
    finds, else the next folder, else the file's name without counters at its end. Of nested folders the outermost
    counts: seasons of one show are one work.

    >>> subcategory_and_work(PurePosixPath("moba/Dota 2/a.mp4"), "gaming", Layout({".mp4"}))
    ('moba', 'Dota 2')
    >>> subcategory_and_work(PurePosixPath("minecraft_clip_012.mp4"), "gaming", Layout({".mp4"}))
    ('', 'minecraft')
    """
    folders = list(path.parts[:-1])
    known = {entry.name for entry in subcategories() if entry.class_name == class_name}
    subcategory = ""
    if folders and (layout.any_subcategory or folders[0].lower() in known):
        first = folders.pop(0)
        subcategory = first.lower() if first.lower() in known else first
    if layout.work_pattern and (found := layout.work_pattern.search("/".join([*folders, path.name]))):
        named = found.groupdict().get("work") or found.group(1)
        if named and named.strip():
            return subcategory, named.strip()
    return subcategory, folders[0] if folders else without_counter(path.stem)


def without_counter(stem: str) -> str:
    """A file's name without what numbers it; a name that is nothing but a number stays.

    >>> without_counter("one_piece_ep03 (2)")
    'one_piece'
    """
    return _COUNTER.sub("", stem).strip(" _.-") or stem


def update_manifest(
    folder: Path, listing: Listing, advance: Callable[[], None] = lambda: None, *, start: Callable[[int], None]
) -> Update:
    """Write ``folder/manifest.csv``: rows that are there stay as they are, files not listed yet are appended.

    Only the hash is filled in where a row lacks it. New rows have no split: ``reelkind dataset split`` gives one.

    Args:
        folder: of the manifest.
        listing: of the same folder.
        advance: called once a hashed file.
        start: called with the number of files to hash.

    Raises:
        DataError: if the manifest that is there is malformed, or there is nothing to write.
    """
    table = _existing(folder / MANIFEST_NAME)
    listed = {PurePosixPath(row["path"]).as_posix() for row in table.rows}
    new = [row for row in listing.rows if row["path"] not in listed]
    present = [row for row in table.rows if (folder / row["path"]).exists()]
    unhashed = [row for row in [*present, *new] if not row.get("sha256")]
    start(len(unhashed))
    failed: list[tuple[str, str]] = []
    for row in unhashed:
        try:
            row["sha256"] = content_hash(folder / row["path"])
        except OSError as error:
            failed.append((row["path"], f"cannot be read: {error.strerror}"))
        advance()
    unreadable = {path for path, _ in failed}
    added = [row for row in new if row["path"] not in unreadable]
    vanished = [row["path"] for row in table.rows if not (folder / row["path"]).exists()]
    table.rows += added
    if not table.rows:
        raise DataError(_nothing_found(folder, listing.skipped))
    write_table(table.path, table.columns, table.rows)
    return Update(table, len(added), vanished, [*listing.skipped, *failed], len(failed))


def _existing(path: Path) -> Table:
    if not path.exists():
        return Table(path, list(COLUMNS))
    table = read_table(path, REQUIRED_COLUMNS)
    samples_of(table)  # a malformed manifest is mended first, not written over
    table.columns += [name for name in COLUMNS if name not in table.columns]
    return table


def _nothing_found(folder: Path, skipped: Sequence[tuple[str, str]]) -> str:
    seen = "; ".join(f"{path} {reason}" for path, reason in skipped[:3]) or "it is empty"
    return f"no video or picture in the class folders of {folder} ({', '.join(CLASSES)}): {seen}"


def find_manifests(paths: Sequence[Path]) -> list[Path]:
    """Manifests named themselves, in folders, or in the folders inside them; each once.

    Raises:
        DataError: if a path holds none.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        folder = path.parent if path.name == MANIFEST_NAME and path.is_file() else path
        inside = sorted(folder.glob(f"*/{MANIFEST_NAME}"))
        here = [folder / MANIFEST_NAME] if (folder / MANIFEST_NAME).is_file() else inside
        if not here:
            raise DataError(f"no {MANIFEST_NAME} in {path} or the folders in it: `reelkind dataset manifest` makes one")
        for manifest in here:
            found.setdefault(manifest.resolve(), manifest)
    return list(found.values())
