"""Turns, ejection and slow start, with a clock of the test's own."""

from collections import Counter

import pytest

from reelkind.client.transport.rotation import EJECT_S, LEAST_WEIGHT, MAX_EJECT_S, SLOW_START_S, Rotation


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rotation(clock: Clock) -> Rotation[str]:
    return Rotation("abc", clock)


def turns(rotation: Rotation[str], number: int) -> Counter[str]:
    return Counter(rotation.next() for _ in range(number))


def test_turns_are_even(rotation: Rotation[str]) -> None:
    assert turns(rotation, 300) == {"a": 100, "b": 100, "c": 100}


def test_clients_do_not_all_begin_with_the_same_server(clock: Clock) -> None:
    assert {Rotation("abc", clock).next() for _ in range(100)} == {"a", "b", "c"}


def test_another_is_asked_than_those_tried(rotation: Rotation[str]) -> None:
    assert {rotation.next("ab") for _ in range(10)} == {"c"}
    assert rotation.next("abc") is None


def test_who_fails_is_out_until_a_probe_succeeds(rotation: Rotation[str], clock: Clock) -> None:
    rotation.failed("a", clock.now)
    assert turns(rotation, 100) == {"b": 50, "c": 50}
    assert rotation.to_probe() is None
    clock.now += EJECT_S
    assert "a" not in turns(rotation, 10)
    assert rotation.to_probe() == "a"
    assert rotation.to_probe() is None  # one caller is enough
    rotation.answered("a", clock.now)
    assert "a" in rotation.in_turn


def test_who_comes_back_starts_slowly(rotation: Rotation[str], clock: Clock) -> None:
    rotation.failed("a", clock.now)
    clock.now += EJECT_S
    rotation.answered("a", clock.now)
    first = turns(rotation, 210)
    assert first["a"] == pytest.approx(210 * LEAST_WEIGHT / (2 + LEAST_WEIGHT), abs=1)
    clock.now += SLOW_START_S / 2
    assert turns(rotation, 250)["a"] == pytest.approx(50, abs=1)
    clock.now += SLOW_START_S / 2
    assert turns(rotation, 300)["a"] == pytest.approx(100, abs=1)


def test_who_fails_again_is_out_twice_as_long_up_to_a_limit(rotation: Rotation[str], clock: Clock) -> None:
    pauses = []
    for _ in range(8):
        rotation.failed("a", clock.now)
        began = clock.now
        while rotation.to_probe() is None:
            clock.now += 0.5
        pauses.append(clock.now - began)
    assert pauses == [1, 2, 4, 8, 16, MAX_EJECT_S, MAX_EJECT_S, MAX_EJECT_S]
    rotation.answered("a", clock.now)
    clock.now += SLOW_START_S
    rotation.answered("a", clock.now)  # well again for as long as a slow start takes
    rotation.failed("a", clock.now)
    clock.now += EJECT_S
    assert rotation.to_probe() == "a"


def test_what_was_asked_before_says_nothing_of_now(rotation: Rotation[str], clock: Clock) -> None:
    asked = clock.now
    clock.now += 1
    rotation.failed("a", clock.now)
    rotation.answered("a", asked)  # on its way when the server died
    assert "a" not in rotation.in_turn
    clock.now += EJECT_S
    rotation.answered("a", clock.now)
    clock.now += 1
    rotation.failed("a", asked)
    assert "a" in rotation.in_turn


def test_if_all_are_out_the_first_to_return_is_asked(rotation: Rotation[str], clock: Clock) -> None:
    for key in "cab":
        rotation.failed(key, clock.now)
        clock.now += 0.1
    assert rotation.next() == "c"
    assert rotation.next("c") == "a"


def test_servers_that_stay_keep_their_standing(rotation: Rotation[str], clock: Clock) -> None:
    rotation.failed("a", clock.now)
    rotation.update("abd")
    assert sorted(rotation.in_turn) == ["b", "d"]
    rotation.answered("c", clock.now)  # gone: of no interest
    assert sorted(rotation.in_turn) == ["b", "d"]
