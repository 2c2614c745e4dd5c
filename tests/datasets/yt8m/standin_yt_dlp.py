"""A stand-in for yt-dlp, which has no YouTube to talk to here: a program of that name that keeps its promises.

It takes the options that reelkind gives, refuses others, keeps a download archive, writes a real video file, and does
for each id what a JSON file says: "ok" (the default), "hang", or a message to fail with.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_PROGRAM = """\
#!{python}
import argparse, json, pathlib, shutil, sys, time

parser = argparse.ArgumentParser()
for flag in ("--ignore-config", "--no-playlist", "--no-progress", "--no-mtime"):
    parser.add_argument(flag, action="store_true", required=True)
for option in ("--download-archive", "--format", "--download-sections", "--output", "--print"):
    parser.add_argument(option, required=True)
parser.add_argument("--cookies")
parser.add_argument("url")
args = parser.parse_args()
folder = pathlib.Path({folder!r})
with (folder / "calls.jsonl").open("a") as log:
    print(json.dumps(vars(args)), file=log)
video_id = args.url.rpartition("=")[2]
outcome = json.loads((folder / "outcomes.json").read_text()).get(video_id, "ok")
archive = pathlib.Path(args.download_archive)
if archive.exists() and f"youtube {{video_id}}\\n" in archive.read_text():
    sys.exit(0)
target = pathlib.Path(args.output % {{"id": video_id, "ext": "mp4"}})
if outcome == "hang":
    target.with_name(target.name + ".part").write_bytes(b"half")
    time.sleep(60)
if outcome != "ok":
    print("WARNING: [youtube] something harmless", file=sys.stderr)
    print("ERROR: [youtube] " + video_id + ": " + outcome, file=sys.stderr)
    sys.exit(1)
shutil.copy(folder / "video.mp4", target)
with target.open("ab") as file:
    file.write(video_id.encode())  # no two videos are the same
with archive.open("a") as file:
    file.write(f"youtube {{video_id}}\\n")
print({licence!r})
"""


class StandinYtDlp:
    """The program in a folder of its own."""

    def __init__(self, folder: Path, video: Path, licence: str = "NA") -> None:
        folder.mkdir()
        (folder / "video.mp4").write_bytes(video.read_bytes())
        self.folder = folder
        self.program = folder / "yt-dlp"
        self.program.write_text(_PROGRAM.format(python=sys.executable, folder=str(folder), licence=licence))
        self.program.chmod(0o755)
        self.set_outcomes({})

    def set_outcomes(self, outcomes: dict[str, str]) -> None:
        """What happens to an id from now on."""
        (self.folder / "outcomes.json").write_text(json.dumps(outcomes))

    @property
    def calls(self) -> list[dict[str, str]]:
        """The arguments of every call so far."""
        log = self.folder / "calls.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def asked(self) -> list[str]:
        """The ids of every call so far."""
        return [call["url"].rpartition("=")[2] for call in self.calls]
