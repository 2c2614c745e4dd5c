"""Patience: what is tried again, how often, and when it ends; with a clock of its own."""

import pytest

from reelkind.client import (
    ClientError,
    InvalidOption,
    ModelUnavailable,
    RequestRejected,
    RequestTimeout,
    ServerBusy,
    ServerFailed,
    ServerUnavailable,
    TlsFailed,
)
from reelkind.client.transport.retry import BURST, BUSY_S, FIRST_PAUSE_S, MAX_PAUSE_S, Budget, Patience, Retry


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


PATIENT = Retry(restart_s=20, busy_s=20, budget=None)


def pauses(
    error: ClientError, *, connected: bool, timeout_s: float = 30, retry: Retry = PATIENT, budget: Budget | None = None
) -> list[float]:
    """Every pause until giving up; attempts take no time."""
    clock = Clock()
    patience = Patience(timeout_s, retry, budget or Budget(retry.budget), clock)
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
        (ModelUnavailable("unknown model: 'x' is not found", "NOT_FOUND"), False, False),
        (ModelUnavailable("unknown model: 'x' has no available versions", "NOT_FOUND"), False, True),
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


def test_without_jitter_pauses_double() -> None:
    found = pauses(ServerBusy("x", "UNAVAILABLE"), connected=True, retry=Retry(busy_s=10, jitter=0, budget=None))
    assert found == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])


@pytest.mark.parametrize(("timeout_s", "seconds", "longest"), [(30, 5, 5), (3, 20, 3), (30, 0, 0)])
@pytest.mark.parametrize("kind", [ServerBusy, ServerUnavailable])
def test_retries_end_with_the_shorter_of_both_limits(
    kind: type[ClientError], timeout_s: float, seconds: float, longest: float
) -> None:
    retry = Retry(restart_s=seconds, busy_s=seconds, budget=None)
    assert sum(pauses(kind("x", "UNAVAILABLE"), connected=True, timeout_s=timeout_s, retry=retry)) <= longest


@pytest.mark.parametrize(("seconds", "busy_s"), [(20.0, BUSY_S), (1.0, 1.0), (0.0, 0.0)])
def test_a_full_queue_gets_a_short_part_of_seconds(seconds: float, busy_s: float) -> None:
    assert Retry.of(seconds) == Retry(restart_s=seconds, busy_s=busy_s)


def test_refusals_are_tried_again_within_the_clients_budget_only() -> None:
    retry = Retry(busy_s=20, budget=0.5)
    budget = Budget(retry.budget)
    found = [len(pauses(ServerBusy("x", "UNAVAILABLE"), connected=True, retry=retry, budget=budget)) for _ in range(12)]
    assert BURST <= sum(found) <= BURST + 0.5 * len(found)
    assert sum(found[-6:]) <= 3
    assert pauses(ServerUnavailable("x", "UNAVAILABLE"), connected=True, retry=retry, budget=budget)  # not of refusals


@pytest.mark.parametrize(
    "wrong",
    [{"restart_s": -1}, {"busy_s": float("nan")}, {"jitter": 2}, {"budget": -0.1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_is_of_no_use_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        Retry(**wrong)


def test_time_for_retries_counts_from_the_first_failure() -> None:
    clock = Clock()
    patience = Patience(60, Retry.of(5), Budget(None), clock)
    clock.now = 40  # the first attempt waited long before it failed
    assert patience.pause_s(ServerBusy("x", "UNAVAILABLE"), connected=True) is not None


def test_a_passed_deadline_is_a_timeout() -> None:
    clock = Clock()
    patience = Patience(10, Retry.of(5), Budget(None), clock)
    clock.now = 10.5
    with pytest.raises(RequestTimeout, match="no answer within 10 s"):
        patience.remaining_s()
