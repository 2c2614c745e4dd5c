"""YouTube ids to short low-resolution files by yt-dlp, one process a video: a stop loses one download at most."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..sample import content_hash
from .errors import FetchError
from .journal import Journal, open_journal, read_journal
from .workspace import Selected, Workspace

logger = logging.getLogger(__name__)

WATCH_URL = "https://www.youtube.com/watch?v="
VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".flv", ".3gp")
UNKNOWN_LICENCE = "unknown (YouTube; the uploader's terms)"
MAX_FAILURES_IN_A_ROW = 5  # then it is not the video
# What yt-dlp says of a video that nobody can have any more, or not without an account.
_GONE = re.compile(
    r"video unavailable|private video|video is private|(?<!format is )not available|no longer available|been removed|"
    r"been terminated|available in your country|members.only|confirm your age|age.restricted|copyright",
    re.IGNORECASE,
)
# ... and of a reason that will meet every other video as well.
_HOPELESS = re.compile(
    r"not a bot|http error 429|too many requests|rate.limited|try again later|ffmpeg is not installed|"
    r"ffmpeg not found|no space left|permission denied|no such option|read-only file system",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class FetchSettings:
    """What is taken of each video, and how.

    Attributes:
        start_s: where the excerpt starts; titles and logos at the very start say little of a video.
        max_seconds: length of the excerpt at most.
        max_height_px: the smallest picture at least this large is good enough for backbones of 224 to 384 px.
        timeout_s: for one video.
        options: further options for yt-dlp, e.g. ``("--cookies", "cookies.txt")``.
        command: the downloader; empty for yt-dlp as installed.
    """

    start_s: float = 30.0
    max_seconds: float = 30.0
    max_height_px: int = 360
    timeout_s: float = 300.0
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """A chosen video that YouTube still had when it was looked up."""

    video: Selected
    youtube_id: str

    @property
    def url(self) -> str:
        """The watch page."""
        return WATCH_URL + self.youtube_id

    def folder(self, workspace: Workspace) -> Path:
        """Where its file goes."""
        return workspace.videos / self.video.class_name / self.video.subcategory


@dataclass(frozen=True)
class FetchResult:
    """How many videos have which outcome.

    Attributes:
        here: with a file.
        dead: gone from YouTube.
        failures: neither, by YouTube id, with the reason; the next run tries them again.
    """

    here: int
    dead: int
    failures: dict[str, str]


def targets(videos: Sequence[Selected], workspace: Workspace) -> Iterator[Target]:
    """The videos that were found by the look-up, in the order of the selection."""
    answers = read_journal(workspace.resolved)
    for video in videos:
        youtube_id = answers.get(video.id, {}).get("youtube_id")
        if youtube_id:
            yield Target(video, youtube_id)


def fetch(wanted: Sequence[Target], workspace: Workspace, settings: FetchSettings) -> FetchResult:
    """Download every video that ``fetched.jsonl`` does not know to be here or dead.

    Raises:
        FetchError: if yt-dlp is missing, or fails for a reason that has nothing to do with the video.
        WorkspaceError: if the journal is damaged or in use.
    """
    command = settings.command or find_downloader()
    failures: dict[str, str] = {}
    in_a_row = 0
    with open_journal(workspace.fetched) as journal:
        waiting = [target for target in wanted if not _is_settled(journal.entries.get(target.youtube_id), workspace)]
        for target in tqdm(waiting, desc="fetch", unit="video", disable=None):
            failure = _fetch_one(command, target, workspace, settings, journal)
            in_a_row = in_a_row + 1 if failure else 0
            if failure:
                failures[target.youtube_id] = failure
                logger.info("%s: %s", target.youtube_id, failure)
                if in_a_row == MAX_FAILURES_IN_A_ROW or _HOPELESS.search(failure):
                    raise FetchError(f"yt-dlp cannot go on: {failure}; what was fetched is kept, run again later")
        entries = [journal.entries.get(target.youtube_id) for target in wanted]
    settled = [entry for entry in entries if entry is not None and _is_settled(entry, workspace)]
    num_dead = sum(1 for entry in settled if "dead" in entry)
    return FetchResult(len(settled) - num_dead, num_dead, failures)


def find_downloader() -> tuple[str, ...]:
    """The command that starts yt-dlp: the program on the path, else the module beside reelkind.

    Raises:
        FetchError: if there is neither.
    """
    if program := shutil.which("yt-dlp"):
        return (program,)
    if _is_installed("yt_dlp"):
        return (sys.executable, "-m", "yt_dlp")
    raise FetchError("yt-dlp is not installed: pip install 'reelkind[yt8m]' (and ffmpeg from your system)")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # barred by an entry of None in sys.modules
        return False


def _is_settled(entry: Mapping[str, Any] | None, workspace: Workspace) -> bool:
    return entry is not None and ("dead" in entry or (workspace.folder / entry.get("path", "")).is_file())


def _fetch_one(
    command: Sequence[str], target: Target, workspace: Workspace, settings: FetchSettings, journal: Journal
) -> str | None:
    """Download, and write the outcome down; returns why there is none, if so."""
    folder = target.folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    status, output, errors = _run([*command, *_arguments(target, workspace, settings)], settings.timeout_s)
    if status != 0:
        problem = _last_error(errors) or f"yt-dlp ended with status {status}"
        if _HOPELESS.search(problem) or not _GONE.search(problem):
            return problem
        journal.append(id=target.youtube_id, dead=problem)
        return None
    file = _file_of(target, folder)
    if file is None:
        return f"yt-dlp left no file for it; if it stands in {workspace.archive.name}, delete its line there"
    licence = output.strip().splitlines()[-1] if output.strip() else ""
    journal.append(
        id=target.youtube_id,
        path=file.relative_to(workspace.folder).as_posix(),
        sha256=content_hash(file),
        licence=licence if licence not in ("", "NA") else UNKNOWN_LICENCE,
    )
    return None


def _arguments(target: Target, workspace: Workspace, settings: FetchSettings) -> list[str]:
    height = f"[height<={settings.max_height_px}]"
    end_s = settings.start_s + settings.max_seconds
    return [
        "--ignore-config",
        "--no-playlist",
        "--no-progress",
        "--no-mtime",
        *("--download-archive", str(workspace.archive)),
        *("--format", f"bestvideo{height}/best{height}/worst"),
        *("--download-sections", f"*{settings.start_s:g}-{end_s:g}"),
        *("--output", str(target.folder(workspace)).replace("%", "%%") + "/%(id)s.%(ext)s"),
        *("--print", "after_move:%(license)s"),
        *settings.options,
        *("--", target.url),
    ]


def _run(command: Sequence[str], timeout_s: float) -> tuple[int, str, str]:
    """Exit status, stdout and stderr; a process that outstays its time is killed with its children (ffmpeg)."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise FetchError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return 1, "", f"ERROR: not done after {timeout_s:g} s"
    else:
        return process.returncode, output, errors
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def _last_error(errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    marked = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return next(iter(marked[-1:] or lines[-1:]), "")


def _file_of(target: Target, folder: Path) -> Path | None:
    candidates = (folder / f"{target.youtube_id}{suffix}" for suffix in VIDEO_SUFFIXES)
    return next((file for file in candidates if file.is_file()), None)
