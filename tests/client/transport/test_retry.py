"""Patience: what is tried again, how often, and when it ends; with a clock of its own."""

import pytest

from reelkind.client import (
    ClientError,
    ModelUnavailable,
    RequestRejected,
    RequestTimeout,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
    TlsFailed,
)
from reelkind.client.transport.retry import FIRST_PAUSE_S, MAX_PAUSE_S, Patience


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pauses(error: ClientError, *, connected: bool, timeout_s: float = 30, retry_s: float = 20) -> list[float]:
    """Every pause until giving up; attempts take no time."""
    clock = Clock()
    patience = Patience(timeout_s, retry_s, clock)
    found = []
    while (pause := patience.pause_s(error, connected=connected)) is not None:
        found.append(pause)
        clock.now += pause
        assert patience.remaining_s() > 0
    return found


@pytest.mark.parametrize(
    ("error", "connected", "retried"),
    [
        (ServerBusy("x", "UNAVAILABLE"), False, True),
        (ServerBusy("x", "UNAVAILABLE"), True, True),
        (ServerBusy("x", "RESOURCE_EXHAUSTED"), True, False),
        (ServerUnavailable("x", "UNAVAILABLE"), True, True),
        (ServerUnavailable("x", "UNAVAILABLE"), False, False),
        (ModelUnavailable("x", "UNAVAILABLE"), True, True),
        (ModelUnavailable("x", "NOT_FOUND"), True, True),
        (ModelUnavailable("x", "INTERNAL"), True, True),
        (ModelUnavailable("x", "UNAVAILABLE"), False, False),
        (TlsFailed("x", "UNAVAILABLE"), True, False),
        (RequestRejected("x", "INVALID_ARGUMENT"), True, False),
        (RequestTimeout("x", "DEADLINE_EXCEEDED"), True, False),
        (ServerFailed("x", "INTERNAL"), True, False),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.status}" if isinstance(value, ClientError) else str(value),
)
def test_only_what_is_unavailable_for_the_moment_is_retried(error: ClientError, connected: bool, retried: bool) -> None:
    assert bool(pauses(error, connected=connected)) == retried


def test_pauses_grow_to_a_limit_and_jitter() -> None:
    found = pauses(ServerBusy("x", "UNAVAILABLE"), connected=True)
    assert 0.5 * FIRST_PAUSE_S <= found[0] <= 1.5 * FIRST_PAUSE_S
    assert max(found) <= 1.5 * MAX_PAUSE_S
    assert found != pauses(ServerBusy("x", "UNAVAILABLE"), connected=True)
    assert len(found) < 40


@pytest.mark.parametrize(("timeout_s", "retry_s", "longest"), [(30, 5, 5), (3, 20, 3), (30, 0, 0)])
def test_retries_end_with_the_shorter_of_both_limits(timeout_s: float, retry_s: float, longest: float) -> None:
    assert sum(pauses(ServerBusy("x", "UNAVAILABLE"), connected=True, timeout_s=timeout_s, retry_s=retry_s)) <= longest


def test_time_for_retries_counts_from_the_first_failure() -> None:
    clock = Clock()
    patience = Patience(60, 5, clock)
    clock.now = 40  # the first attempt waited long before it failed
    assert patience.pause_s(ServerBusy("x", "UNAVAILABLE"), connected=True) is not None


def test_a_passed_deadline_is_a_timeout() -> None:
    clock = Clock()
    patience = Patience(10, 5, clock)
    clock.now = 10.5
    with pytest.raises(RequestTimeout, match="no answer within 10 s"):
        patience.remaining_s()
