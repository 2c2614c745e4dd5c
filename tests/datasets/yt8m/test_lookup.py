import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelkind.datasets.yt8m.errors import LookupServiceError
from reelkind.datasets.yt8m.lookup import MAX_GONE_IN_A_ROW, NUM_ATTEMPTS, Resolution, resolve
from reelkind.datasets.yt8m.workspace import Workspace

from .lookup_server import LookupServer, youtube_id
from .made_records import made_id

IDS = [made_id(i) for i in range(1000, 1008)]


class Clock:
    """Notes the pauses instead of waiting for them."""

    def __init__(self) -> None:
        self.pauses_s: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)


def ask(server: LookupServer, folder: Path, ids: list[str] = IDS, **options: object) -> Resolution:
    options = {"base_url": server.url, "rate_per_s": 1e6, "sleep": Clock().sleep, **options}
    return resolve(ids, Workspace(folder), **options)  # type: ignore[arg-type]


def answers(folder: Path) -> dict[str, str | None]:
    lines = (folder / "resolved.jsonl").read_text().splitlines()
    return {entry["id"]: entry["youtube_id"] for entry in map(json.loads, lines)}


def test_every_id_is_asked_for_once_and_written_down(server: LookupServer, tmp_path: Path) -> None:
    result = ask(server, tmp_path, [*IDS, *IDS])
    assert result == Resolution(alive=8, dead=0, open={})
    assert answers(tmp_path) == {video_id: youtube_id(video_id) for video_id in IDS}
    assert ask(server, tmp_path) == result
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_gone_is_dead_and_not_asked_for_again(server: LookupServer, tmp_path: Path, status: int) -> None:
    server.statuses[IDS[2]] = [status]
    for _ in range(2):
        assert ask(server, tmp_path) == Resolution(alive=7, dead=1, open={})
    assert answers(tmp_path)[IDS[2]] is None
    assert set(server.asked.values()) == {1}
    assert ask(server, tmp_path, retry_dead=True) == Resolution(alive=8, dead=0, open={})
    assert server.asked[IDS[2]] == 2


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_server_errors_are_tried_again_with_growing_pauses(server: LookupServer, tmp_path: Path, status: int) -> None:
    server.statuses[IDS[0]] = [status] * (NUM_ATTEMPTS - 1)
    clock = Clock()
    assert ask(server, tmp_path, sleep=clock.sleep).alive == 8
    assert server.asked[IDS[0]] == NUM_ATTEMPTS
    backoffs = [pause for pause in clock.pauses_s if pause > 0.4]
    assert len(backoffs) == NUM_ATTEMPTS - 1
    for attempt, pause in enumerate(backoffs):
        assert 0.5 * 2**attempt <= pause <= 2**attempt


def test_the_pause_a_server_asks_for_is_kept_within_reason(server: LookupServer, tmp_path: Path) -> None:
    server.statuses[IDS[0]] = [429]
    server.retry_after = "17"
    clock = Clock()
    ask(server, tmp_path, sleep=clock.sleep)
    assert max(clock.pauses_s) == 17
    server.statuses[IDS[0]], server.retry_after = [429], "86400"
    (tmp_path / "later").mkdir()
    ask(server, tmp_path / "later", IDS[:1], sleep=clock.sleep)
    assert max(clock.pauses_s) == 60


def test_an_id_without_answer_stays_open_and_the_others_go_on(server: LookupServer, tmp_path: Path) -> None:
    server.statuses[IDS[1]] = [500] * NUM_ATTEMPTS
    server.statuses[IDS[3]] = [400]
    server.bodies[IDS[5]] = b"<html>log in</html>"
    result = ask(server, tmp_path)
    assert (result.alive, result.dead) == (5, 0)
    assert set(result.open) == {IDS[1], IDS[3], IDS[5]}
    assert result.open[IDS[1]] == "HTTP 500 Internal Server Error"
    assert result.open[IDS[3]] == "HTTP 400 Bad Request"
    assert "unexpected answer '<html>log in</html>'" in result.open[IDS[5]]
    assert server.asked[IDS[3]] == 1  # asking again cannot help
    server.bodies.clear()
    assert ask(server, tmp_path).alive == 8


@pytest.mark.parametrize("body", [b'i("zzzz","yt-_0000abc");', b'i("0000","short");', b"\xff\xfe", b""])
def test_an_answer_to_something_else_is_not_believed(server: LookupServer, tmp_path: Path, body: bytes) -> None:
    server.bodies[IDS[0]] = body
    assert list(ask(server, tmp_path, IDS[:2]).open) == [IDS[0]]


def test_a_service_that_is_down_ends_the_run_and_keeps_what_there_is(server: LookupServer, tmp_path: Path) -> None:
    ask(server, tmp_path, IDS[:2])
    with pytest.raises(LookupServiceError, match=r"does not answer: .*refused.*run again later"):
        ask(server, tmp_path, base_url="http://127.0.0.1:9")
    assert len(answers(tmp_path)) == 2
    assert ask(server, tmp_path).alive == 8


def test_a_slow_answer_is_a_time_out(server: LookupServer, tmp_path: Path) -> None:
    server.stalled.add(IDS[0])
    result = ask(server, tmp_path, IDS[:1], timeout_s=0.1)
    assert list(result.open) == [IDS[0]]
    assert "timed out" in result.open[IDS[0]]


def test_a_wall_is_not_taken_for_dead_videos(server: LookupServer, tmp_path: Path) -> None:
    ids = [made_id(i) for i in range(MAX_GONE_IN_A_ROW + 5)]
    server.statuses.update({video_id: [403] for video_id in ids})
    with pytest.raises(LookupServiceError, match=r"40 videos in a row.*--retry-dead"):
        ask(server, tmp_path, ids)
    assert ask(server, tmp_path, ids, retry_dead=True).alive == MAX_GONE_IN_A_ROW


def test_questions_keep_their_distance(server: LookupServer, tmp_path: Path) -> None:
    clock = Clock()
    ask(server, tmp_path, rate_per_s=0.01, sleep=clock.sleep)
    assert len(clock.pauses_s) == len(IDS) - 1
    assert 0 < clock.pauses_s[0] <= 100
    assert clock.pauses_s[-1] > clock.pauses_s[0]  # this clock does not wait, so the debt adds up


def test_killed_in_the_middle_nothing_is_lost_or_asked_twice(server: LookupServer, tmp_path: Path) -> None:
    server.stalled.add(IDS[4])
    script = (
        "import sys; from pathlib import Path; from reelkind.datasets.yt8m import lookup, workspace; "
        "lookup.resolve(sys.argv[3:], workspace.Workspace(Path(sys.argv[1])), base_url=sys.argv[2], rate_per_s=1e6)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), server.url, *IDS])
    while not server.asked[IDS[4]]:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert answers(tmp_path) == {video_id: youtube_id(video_id) for video_id in IDS[:4]}
    server.released.set()
    assert ask(server, tmp_path) == Resolution(alive=8, dead=0, open={})
    assert [server.asked[video_id] for video_id in IDS] == [1, 1, 1, 1, 2, 1, 1, 1]  # the fifth had no answer yet
