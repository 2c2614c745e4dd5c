import csv
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from videos import write_video

from reelkind.core.taxonomy.classes import Subcategory, subcategories
from reelkind.datasets.samples import read_samples
from reelkind.datasets.yt8m.errors import FetchError
from reelkind.datasets.yt8m.fetch import (
    MAX_FAILURES_IN_A_ROW,
    FetchResult,
    FetchSettings,
    fetch,
    find_downloader,
    targets,
)
from reelkind.datasets.yt8m.journal import open_journal
from reelkind.datasets.yt8m.outcome import write_dead, write_manifest
from reelkind.datasets.yt8m.workspace import Selected, Workspace

from .lookup_server import youtube_id
from .made_records import labels_of, made_id
from .standin_yt_dlp import StandinYtDlp


def selected(number: int, subcategory: Subcategory) -> Selected:
    return Selected(made_id(number), subcategory.class_name, subcategory.name, labels_of(subcategory), "a.tfrecord")


VIDEOS = [selected(i, subcategory) for i, subcategory in enumerate(subcategories()[::6])]
YOUTUBE_IDS = [youtube_id(video.id) for video in VIDEOS]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, 10)
    return path


@pytest.fixture
def yt_dlp(tmp_path: Path, clip: Path) -> StandinYtDlp:
    return StandinYtDlp(tmp_path / "bin", clip)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "wörk 100% 8M"
    folder.mkdir()
    workspace = Workspace(folder)
    with open_journal(workspace.resolved) as journal:
        for video in VIDEOS:
            journal.append(id=video.id, youtube_id=youtube_id(video.id))
    return workspace


def run(workspace: Workspace, yt_dlp: StandinYtDlp, **settings: object) -> FetchResult:
    chosen = FetchSettings(command=(str(yt_dlp.program),), **settings)  # type: ignore[arg-type]
    return fetch(list(targets(VIDEOS, workspace)), workspace, chosen)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_everything_is_fetched_once_into_its_place(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    for _ in range(2):
        assert run(workspace, yt_dlp) == FetchResult(here=len(VIDEOS), dead=0, failures={})
    assert yt_dlp.asked == YOUTUBE_IDS
    for video, name in zip(VIDEOS, YOUTUBE_IDS, strict=True):
        assert (workspace.videos / video.class_name / video.subcategory / f"{name}.mp4").is_file()


def test_the_excerpt_is_short_small_and_as_asked(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    run(workspace, yt_dlp, start_s=5, max_seconds=12.5, max_height_px=240, options=("--cookies", "c.txt"))
    call = yt_dlp.calls[0]
    assert call["download_sections"] == "*5-17.5"
    assert call["format"] == "bestvideo[height<=240]/best[height<=240]/worst"
    assert call["cookies"] == "c.txt"
    assert call["download_archive"] == str(workspace.archive)


def test_the_manifest_can_be_read_and_keeps_what_was_edited(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    run(workspace, yt_dlp)
    wanted = list(targets(VIDEOS, workspace))
    assert write_manifest(wanted, workspace) == len(VIDEOS)
    samples = read_samples(workspace.folder.parent, [workspace.folder.name])
    assert [sample.work for sample in samples] == YOUTUBE_IDS
    assert [sample.subcategory for sample in samples] == [video.subcategory for video in VIDEOS]
    assert {sample.licence for sample in samples} == {"unknown (YouTube; the uploader's terms)"}
    assert all(sample.sha256 == hashlib.sha256(sample.path.read_bytes()).hexdigest() for sample in samples)
    edited = rows(workspace.manifest)
    assert {row["split"] for row in edited} == {""}
    edited[0].update(split="val", note="mine", licence="CC BY")
    with workspace.manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(edited[0]), restval="")
        writer.writeheader()
        writer.writerows(edited[:-1])
    write_manifest(wanted, workspace)
    after = {row["path"]: row for row in rows(workspace.manifest)}
    assert len(after) == len(VIDEOS)
    assert after[edited[0]["path"]] == edited[0]


@pytest.mark.parametrize(
    "message",
    [
        "Video unavailable. This video has been removed by the uploader",
        "Private video. Sign in if you've been granted access to this video",
        "Sign in to confirm your age. This video may be inappropriate for some users.",
        "Video unavailable. The uploader has not made this video available in your country",
        "Join this channel to get access to members-only content like this video",
        "This video is not available",
    ],
)
def test_a_dead_video_is_reported_and_not_asked_for_again(
    workspace: Workspace, yt_dlp: StandinYtDlp, message: str
) -> None:
    yt_dlp.set_outcomes({YOUTUBE_IDS[2]: message})
    for _ in range(2):
        assert run(workspace, yt_dlp) == FetchResult(here=len(VIDEOS) - 1, dead=1, failures={})
    assert yt_dlp.asked.count(YOUTUBE_IDS[2]) == 1
    gone = Selected("zzzz", "natural", "pets", (67,), "a.tfrecord")
    with open_journal(workspace.resolved) as journal:
        journal.append(id="zzzz", youtube_id=None)
    assert write_dead([*VIDEOS, gone], workspace) == 2
    fetched, resolved = rows(workspace.dead)
    assert (fetched["youtube_id"], fetched["stage"], fetched["id"]) == (YOUTUBE_IDS[2], "fetch", VIDEOS[2].id)
    assert message in fetched["reason"]
    assert (resolved["id"], resolved["youtube_id"], resolved["stage"]) == ("zzzz", "", "resolve")


@pytest.mark.parametrize(
    "message", ["Unable to download webpage: Connection reset", "Requested format is not available"]
)
def test_a_passing_failure_is_tried_again_in_the_next_run(
    workspace: Workspace, yt_dlp: StandinYtDlp, message: str
) -> None:
    yt_dlp.set_outcomes({YOUTUBE_IDS[1]: message})
    result = run(workspace, yt_dlp)
    assert result.here == len(VIDEOS) - 1
    assert list(result.failures) == [YOUTUBE_IDS[1]]
    assert message in result.failures[YOUTUBE_IDS[1]]
    yt_dlp.set_outcomes({})
    assert run(workspace, yt_dlp).here == len(VIDEOS)
    assert len(yt_dlp.asked) == len(VIDEOS) + 1


@pytest.mark.parametrize(
    "message",
    [
        "Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies",
        "unable to download video data: HTTP Error 429: Too Many Requests",
        "Video unavailable. This content isn't available, try again later. The session has been rate-limited",
        "ffmpeg is not installed. Aborting due to --abort-on-error",
    ],
)
def test_what_would_meet_every_video_ends_the_run(workspace: Workspace, yt_dlp: StandinYtDlp, message: str) -> None:
    yt_dlp.set_outcomes({YOUTUBE_IDS[1]: message})
    with pytest.raises(FetchError, match=r"yt-dlp cannot go on: .*run again later"):
        run(workspace, yt_dlp)
    assert yt_dlp.asked == YOUTUBE_IDS[:2]
    yt_dlp.set_outcomes({})
    assert run(workspace, yt_dlp).here == len(VIDEOS)


def test_failures_in_a_row_end_the_run(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    yt_dlp.set_outcomes(dict.fromkeys(YOUTUBE_IDS, "Temporary failure in name resolution"))
    with pytest.raises(FetchError, match="name resolution"):
        run(workspace, yt_dlp)
    assert len(yt_dlp.asked) == MAX_FAILURES_IN_A_ROW


def test_a_video_that_takes_too_long_is_given_up(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    yt_dlp.set_outcomes({YOUTUBE_IDS[0]: "hang"})
    wanted = list(targets(VIDEOS[:1], workspace))
    result = fetch(wanted, workspace, FetchSettings(command=(str(yt_dlp.program),), timeout_s=0.5))
    assert result.failures == {YOUTUBE_IDS[0]: "not done after 0.5 s"}
    assert write_manifest(wanted, workspace) == 0  # the half file counts for nothing


def test_a_file_that_vanished_is_not_claimed(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    run(workspace, yt_dlp)
    video = VIDEOS[0]
    file = workspace.videos / video.class_name / video.subcategory / f"{YOUTUBE_IDS[0]}.mp4"
    file.unlink()
    result = run(workspace, yt_dlp)
    assert result.here == len(VIDEOS) - 1
    assert "archive.txt, delete its line" in result.failures[YOUTUBE_IDS[0]]
    workspace.archive.write_text(workspace.archive.read_text().replace(f"youtube {YOUTUBE_IDS[0]}\n", ""))
    assert run(workspace, yt_dlp).failures == {}
    assert file.is_file()


def test_killed_in_the_middle_it_fetches_the_rest_only(workspace: Workspace, yt_dlp: StandinYtDlp) -> None:
    yt_dlp.set_outcomes({YOUTUBE_IDS[3]: "hang"})
    script = (
        "import sys; from pathlib import Path; from reelkind.datasets.yt8m import fetch, workspace; "
        "from reelkind.datasets.yt8m.workspace import Selected; "
        f"videos = {VIDEOS!r}; space = workspace.Workspace(Path(sys.argv[1])); "
        "fetch.fetch(list(fetch.targets(videos, space)), space, fetch.FetchSettings(command=(sys.argv[2],)))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(workspace.folder), str(yt_dlp.program)])
    while len(yt_dlp.asked) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    yt_dlp.set_outcomes({})
    assert run(workspace, yt_dlp).here == len(VIDEOS)
    asked = [yt_dlp.asked.count(each) for each in YOUTUBE_IDS]
    assert asked == [1, 1, 1, 2, *[1] * (len(VIDEOS) - 4)]


def test_a_download_that_yt_dlp_finished_before_the_kill_is_taken_over(
    workspace: Workspace, yt_dlp: StandinYtDlp
) -> None:
    run(workspace, yt_dlp)
    lines = workspace.fetched.read_text().splitlines(keepends=True)
    workspace.fetched.write_text("".join(lines[:-1]))  # yt-dlp's archive has the last one, we have not
    assert run(workspace, yt_dlp).here == len(VIDEOS)
    assert json.loads(workspace.fetched.read_text().splitlines()[-1])["sha256"] == json.loads(lines[-1])["sha256"]


def test_the_uploaders_licence_is_kept(workspace: Workspace, clip: Path, tmp_path: Path) -> None:
    run(workspace, StandinYtDlp(tmp_path / "cc", clip, licence="Creative Commons Attribution"))
    write_manifest(list(targets(VIDEOS, workspace)), workspace)
    assert {row["licence"] for row in rows(workspace.manifest)} == {"Creative Commons Attribution"}


def test_a_missing_downloader_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(FetchError, match=r"pip install 'reelkind\[yt8m\]'"):
        find_downloader()


def test_a_downloader_that_cannot_be_started_is_named(workspace: Workspace) -> None:
    with pytest.raises(FetchError, match="/nowhere/yt-dlp cannot be started: No such file"):
        fetch(list(targets(VIDEOS, workspace)), workspace, FetchSettings(command=("/nowhere/yt-dlp",)))
