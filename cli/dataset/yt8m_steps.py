"""The steps of ``reelkind dataset yt8m``: parsed arguments to work done and an exit status."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from reelkind.core.errors import ReelkindError
from reelkind.core.taxonomy.classes import subcategories
from reelkind.datasets.yt8m import fetch as fetching
from reelkind.datasets.yt8m import lookup
from reelkind.datasets.yt8m import selection as selecting
from reelkind.datasets.yt8m.errors import RecordError
from reelkind.datasets.yt8m.labelling import Refusal, subcategory_of
from reelkind.datasets.yt8m.outcome import write_dead, write_manifest
from reelkind.datasets.yt8m.records import read_labels
from reelkind.datasets.yt8m.selection import Selection, find_shards
from reelkind.datasets.yt8m.subset import extract
from reelkind.datasets.yt8m.workspace import Workspace, read_selection

from ..output.talk import EXIT_FAILED, EXIT_OK, say


def show(args: argparse.Namespace) -> int:
    """Print one line a record."""
    status = EXIT_OK
    for shard in find_shards(args.shards):
        try:
            for record in read_labels(shard):
                verdict = subcategory_of(record.labels)
                where = f"- {verdict}" if isinstance(verdict, Refusal) else f"{verdict.class_name}/{verdict.name}"
                print(record.id, where, " ".join(map(str, record.labels)), sep="\t")
        except RecordError as error:
            say(str(error))
            status = EXIT_FAILED
    return status


def select(args: argparse.Namespace) -> int:
    """Choose, and print the table of subcategories."""
    selection = selecting.select(find_shards(args.shards), Workspace(args.out), args.videos, args.seed)
    if args.json:
        print(json.dumps(_selection_summary(selection), indent=2))
    else:
        _print_selection(selection)
    for problem in selection.failures.values():
        say(f"left out: {problem}")
    return EXIT_OK if selection.videos and not selection.failures else EXIT_FAILED


def _selection_summary(selection: Selection) -> dict[str, Any]:
    return {
        "videos_seen": selection.tally.num_videos,
        "chosen": len(selection.videos),
        "refused": dict(selection.tally.refusals),
        "subcategories": {
            name: {"candidates": selection.tally.candidates[name], "wanted": wanted, "chosen": selection.chosen[name]}
            for name, wanted in selection.wanted.items()
        },
        "failures": {str(path): problem for path, problem in selection.failures.items()},
    }


def _print_selection(selection: Selection) -> None:
    chosen = selection.chosen
    print(f"{'SUBCATEGORY':<44}{'CANDIDATES':>11}{'WANTED':>8}{'CHOSEN':>8}")
    for subcategory in subcategories():
        name, wanted = subcategory.name, selection.wanted[subcategory.name]
        note = "  too few" if chosen[name] < wanted else ""
        label = f"{subcategory.class_name}/{name}"
        print(f"{label:<44}{selection.tally.candidates[name]:>11}{wanted:>8}{chosen[name]:>8}{note}")
    print(f"{len(selection.videos)} chosen of {selection.tally.num_videos} seen")
    for reason, count in selection.tally.refusals.most_common():
        print(f"{count} left out: {reason}")


def resolve(args: argparse.Namespace) -> int:
    """Look up what has no answer yet."""
    workspace = Workspace(args.folder)
    videos = read_selection(workspace.selection)
    try:
        result = lookup.resolve(
            [video.id for video in videos],
            workspace,
            base_url=args.base_url or lookup.BASE_URL,
            rate_per_s=args.rate,
            timeout_s=args.timeout,
            retry_dead=args.retry_dead,
        )
    finally:
        write_dead(videos, workspace)
    _print_counts({"found": result.alive, "gone": result.dead, "open": len(result.open)}, args.json)
    for video_id, problem in result.open.items():
        say(f"{video_id}: {problem}; run again to ask again")
    return EXIT_FAILED if result.open else EXIT_OK


def urls(args: argparse.Namespace) -> int:
    """Print one watch page a line."""
    workspace = Workspace(args.folder)
    for target in fetching.targets(read_selection(workspace.selection), workspace):
        print(target.url)
    return EXIT_OK


def fetch(args: argparse.Namespace) -> int:
    """Download what is not here yet."""
    workspace = Workspace(args.folder)
    videos = read_selection(workspace.selection)
    wanted = list(fetching.targets(videos, workspace))
    if not wanted:
        raise ReelkindError(f"no YouTube ids in {workspace.resolved}: run `reelkind dataset yt8m resolve` first")
    settings = fetching.FetchSettings(args.start, args.seconds, args.height, args.timeout, tuple(args.yt_dlp_options))
    try:
        result = fetching.fetch(wanted, workspace, settings)
    finally:
        write_dead(videos, workspace)
        num_rows = write_manifest(wanted, workspace)
    _print_counts(
        {"here": result.here, "gone": result.dead, "failed": len(result.failures), "manifest_rows": num_rows}, args.json
    )
    for youtube_id, problem in result.failures.items():
        say(f"{youtube_id}: {problem}; run again to try again")
    return EXIT_FAILED if result.failures else EXIT_OK


def features(args: argparse.Namespace) -> int:
    """Copy records."""
    videos = read_selection(Workspace(args.folder).selection)
    out = args.out or args.folder / "features"
    failures = extract(find_shards(args.shards), videos, out)
    for problem in failures.values():
        say(f"left out: {problem}")
    print(out)
    return EXIT_FAILED if failures else EXIT_OK


def _print_counts(counts: dict[str, int], as_json: bool) -> None:
    if as_json:
        print(json.dumps(counts))
    else:
        print(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))


STEPS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "show": show,
    "select": select,
    "resolve": resolve,
    "urls": urls,
    "fetch": fetch,
    "features": features,
}
