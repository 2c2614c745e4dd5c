"""YouTube-8M's 4-character ids to YouTube's: asked once each, slowly, and written down at once.

Source: research.google.com/youtube8m/video_id_conversion.html. ``BASE/AB/ABCD.js`` holds ``i("ABCD","<YouTube id>");``
for as long as the video is public.
"""

from __future__ import annotations

import http.client
import logging
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tqdm import tqdm

from .errors import LookupServiceError
from .journal import open_journal
from .workspace import Workspace

logger = logging.getLogger(__name__)

BASE_URL = "https://data.yt8m.org/2/j/i"
NUM_ATTEMPTS = 5
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0  # back-off doubles between them
MAX_UNANSWERED_IN_A_ROW = 3  # then it is the service, not the id
MAX_GONE_IN_A_ROW = 40  # about half are gone by now: one chance in a million million that this is not a wall
MAX_ANSWER_BYTES = 4096
_ANSWER = re.compile(r"""\s*i\(\s*["']([\w-]+)["']\s*,\s*["']([\w-]{11})["']\s*\)\s*;?\s*""", re.ASCII)
_GONE = (403, 404, 410)  # the store says 403 for files that do not exist


@dataclass(frozen=True)
class Resolution:
    """How many ids have which answer.

    Attributes:
        alive: with a YouTube id.
        dead: deleted or made private.
        open: not answered, by id, with the reason; the next run asks for them again.
    """

    alive: int
    dead: int
    open: dict[str, str]


def resolve(
    ids: Iterable[str],
    workspace: Workspace,
    *,
    base_url: str = BASE_URL,
    rate_per_s: float = 5.0,
    timeout_s: float = 20.0,
    retry_dead: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Resolution:
    """Ask for every id that has no answer in ``resolved.jsonl`` yet.

    Server errors, refusals to answer so fast (429) and time-outs are tried again with growing pauses; 403, 404 and 410
    mean that the video is gone.

    Args:
        ids: YouTube-8M's.
        workspace: its journal is read, and gets each answer before the next question.
        base_url: without the ids' part.
        rate_per_s: questions a second at most.
        timeout_s: of one question.
        retry_dead: ask again for those that were gone.
        sleep: waits some seconds.

    Raises:
        LookupServiceError: if several ids in a row get no answer, or very many are gone.
        WorkspaceError: if the journal is damaged or in use.
    """
    ids = list(dict.fromkeys(ids))
    unanswered: dict[str, str] = {}
    unanswered_in_a_row = gone_in_a_row = 0
    with open_journal(workspace.resolved) as journal:
        known = {key for key, entry in journal.entries.items() if entry.get("youtube_id") or not retry_dead}
        pace = _Pace(rate_per_s, sleep)
        for video_id in tqdm([i for i in ids if i not in known], desc="resolve", unit="id", disable=None):
            try:
                youtube_id = _ask_patiently(video_id, base_url, timeout_s, pace)
            except _NoAnswerError as error:
                logger.info("%s: %s", video_id, error)
                unanswered[video_id] = str(error)
                unanswered_in_a_row += 1
                if unanswered_in_a_row == MAX_UNANSWERED_IN_A_ROW:
                    raise LookupServiceError(
                        f"{base_url} does not answer: {error}; all answers so far are kept, run again later"
                    ) from error
                continue
            journal.append(id=video_id, youtube_id=youtube_id)
            unanswered_in_a_row, gone_in_a_row = 0, 0 if youtube_id else gone_in_a_row + 1
            if gone_in_a_row == MAX_GONE_IN_A_ROW and not retry_dead:
                raise LookupServiceError(
                    f"{base_url} says of {gone_in_a_row} videos in a row that they are gone: is it the right address, "
                    "and reachable? --retry-dead asks for them again"
                )
        answers = [journal.entries[video_id] for video_id in ids if video_id in journal.entries]
    alive = sum(1 for entry in answers if entry.get("youtube_id"))
    return Resolution(alive, len(answers) - alive, unanswered)


class _NoAnswerError(Exception):
    """Neither a YouTube id nor the word that there is none."""


class _RetryError(_NoAnswerError):
    """Trying again may help, after ``pause_s`` if the server said so."""

    def __init__(self, message: str, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class _Pace:
    """Keeps questions apart."""

    def __init__(self, rate_per_s: float, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep
        self._gap_s = 1 / rate_per_s
        self._next_s = 0.0

    def wait(self) -> None:
        now = time.monotonic()
        if now < self._next_s:
            self.sleep(self._next_s - now)
        self._next_s = max(now, self._next_s) + self._gap_s


def _ask_patiently(video_id: str, base_url: str, timeout_s: float, pace: _Pace) -> str | None:
    for attempt in range(NUM_ATTEMPTS):
        pace.wait()
        try:
            return _ask(video_id, base_url, timeout_s)
        except _RetryError as error:
            if attempt + 1 == NUM_ATTEMPTS:
                raise
            pause_s = error.pause_s or min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * random.uniform(0.5, 1.0)
            pace.sleep(min(LONGEST_PAUSE_S, pause_s))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _ask(video_id: str, base_url: str, timeout_s: float) -> str | None:
    url = f"{base_url.rstrip('/')}/{video_id[:2]}/{video_id}.js"
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # nosec B310 # the user names it
            body = response.read(MAX_ANSWER_BYTES).decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _GONE:
            return None
        message = f"HTTP {error.code} {error.reason}"
        if error.code >= 500 or error.code == 429:
            raise _RetryError(message, _retry_after_s(error)) from error
        raise _NoAnswerError(message) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _RetryError(str(getattr(error, "reason", error)) or type(error).__name__) from error
    match = _ANSWER.fullmatch(body)
    if not match or match[1] != video_id:
        raise _NoAnswerError(f"unexpected answer {body[:60]!r}")
    return match[2]


def _retry_after_s(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None
