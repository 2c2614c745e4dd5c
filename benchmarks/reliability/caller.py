"""A well-behaved caller in a process of its own: one clip after the other, each timed and compared with the first.

with Caller(url, pause_s=0.05) as caller:
    ...
    caller.stop()
caller.answers  # of the whole time; `between` chooses
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from reelkind.benchmarks.reliability import reports
from reelkind.client import Client, Prediction, ReelkindError
from reelkind.video.clip import read_clip

NUM_FRAMES = 4
TOLERANCE = 1e-4  # of a probability: batches of other sizes add up in another order


@dataclass(frozen=True)
class Answer:
    """One call.

    Attributes:
        at_s: when it was made, by the monotonic clock, which all processes of a machine share.
        taken_s: until its answer.
        error: of the client, if it got none.
        wrong: whether it differs from the first.
    """

    at_s: float
    taken_s: float
    error: str = ""
    wrong: bool = False


class Caller:
    """Calls as long as its ``with`` block lasts, or until it is stopped.

    Args:
        url: of the server.
        pause_s: between an answer and the next call.
        retry_s: of its client.
        timeout_s: of its client.
    """

    def __init__(self, url: str, *, pause_s: float, retry_s: float = 0.0, timeout_s: float = 60.0) -> None:
        self.answers: list[Answer] = []
        self._command = [sys.executable, "-m", "reelkind.benchmarks.reliability.caller", url]
        self._command += [str(each) for each in (pause_s, retry_s, timeout_s)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError("the caller could not begin: see above")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """No more calls; the last is answered."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()
        self._thread.join()

    def between(self, start_s: float, end_s: float) -> list[Answer]:
        """Calls made in this time, by the monotonic clock."""
        return [answer for answer in self.answers if start_s <= answer.at_s < end_s]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.answers.append(Answer(**json.loads(line)))


def percentile_ms(answers: Sequence[Answer], percentile: float) -> float | None:
    """Milliseconds that so many of a hundred answers took at most; None without answers."""
    times = sorted(answer.taken_s for answer in answers if not answer.error)
    return round(times[min(len(times) - 1, int(len(times) * percentile / 100))] * 1e3, 1) if times else None


def call(url: str, pause_s: float, retry_s: float, timeout_s: float) -> None:
    """Print a line when ready, and one a call, until stdin is closed."""
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    clip_path = sorted(reports.SAMPLES.glob("*.mp4"))[0]
    with Client(url, retry_s=retry_s, timeout_s=timeout_s) as client:
        clip = read_clip(clip_path, num_frames=NUM_FRAMES, size_px=client.server_info().frame_size_px).frames
        right = client.classify_frames(clip)
        assert isinstance(right, Prediction)
        print("ready", flush=True)
        while not ended.wait(pause_s):
            at, error, wrong = time.monotonic(), "", False
            try:
                found = client.classify_frames(clip)
                assert isinstance(found, Prediction)
                wrong = any(abs(found.scores[name] - right.scores[name]) > TOLERANCE for name in right.scores)
            except ReelkindError as failure:
                error = f"{type(failure).__name__}: {failure}"
            print(json.dumps(asdict(Answer(at, time.monotonic() - at, error, wrong))), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("numbers", type=float, nargs=3, metavar=("PAUSE_S", "RETRY_S", "TIMEOUT_S"))
    args = parser.parse_args()
    call(args.url, *args.numbers)
