"""What became of the chosen videos: ``dead.csv`` for what is gone, ``manifest.csv`` for what is here."""

from __future__ import annotations

from collections.abc import Sequence

from ..tables import read_table, write_table
from .fetch import Target
from .journal import read_journal
from .workspace import Selected, Workspace

DEAD_COLUMNS = ("id", "youtube_id", "class", "subcategory", "stage", "reason")
MANIFEST_COLUMNS = ("path", "class", "subcategory", "work", "split", "licence", "sha256")


def write_dead(videos: Sequence[Selected], workspace: Workspace) -> int:
    """Rewrite ``dead.csv`` from both journals and return its number of rows."""
    resolved, fetched = read_journal(workspace.resolved), read_journal(workspace.fetched)
    rows = []
    for video in videos:
        row = {"id": video.id, "class": video.class_name, "subcategory": video.subcategory}
        answer = resolved.get(video.id)
        if answer is None:
            continue
        youtube_id = answer.get("youtube_id")
        if youtube_id is None:
            rows.append({**row, "stage": "resolve", "reason": "no YouTube id any more: deleted or made private"})
        elif reason := fetched.get(youtube_id, {}).get("dead"):
            rows.append({**row, "youtube_id": youtube_id, "stage": "fetch", "reason": reason})
    write_table(workspace.dead, DEAD_COLUMNS, rows)
    return len(rows)


def write_manifest(targets: Sequence[Target], workspace: Workspace) -> int:
    """Add the files that are here to ``manifest.csv`` and return its number of rows.

    Rows that stand there keep their class, split and whatever else was edited; only the hash of a file that was fetched
    anew follows the file.

    Raises:
        DataError: if there is a manifest that cannot be read.
    """
    fetched = read_journal(workspace.fetched)
    columns, rows = list(MANIFEST_COLUMNS), {}
    if workspace.manifest.exists():
        table = read_table(workspace.manifest, ("path",))
        columns = list(dict.fromkeys([*table.columns, *MANIFEST_COLUMNS]))
        rows = {row["path"]: row for row in table.rows}
    for target in targets:
        entry = fetched.get(target.youtube_id, {})
        if "path" not in entry or not (workspace.folder / entry["path"]).is_file():
            continue
        new = {
            "path": entry["path"],
            "class": target.video.class_name,
            "subcategory": target.video.subcategory,
            "work": target.youtube_id,
            "licence": entry["licence"],
        }
        rows[entry["path"]] = {**new, **rows.get(entry["path"], {}), "sha256": entry["sha256"]}
    write_table(workspace.manifest, columns, rows.values())
    return len(rows)
