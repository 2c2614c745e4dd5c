"""Work of a blocking client in threads."""

import threading
from collections.abc import Iterator

import pytest

from reelkind.client.transport.threads import run_many

WAIT_S = 60.0


@pytest.mark.parametrize("ordered", [True, False])
def test_an_answer_does_not_wait_for_the_items_after_the_next(ordered: bool) -> None:
    answered = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        assert done.wait(WAIT_S)
        yield 1
        assert answered.wait(WAIT_S), "as long as nobody has the first answer, the next item does not come"
        yield 2

    done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            done.set()
        else:
            assert answered.wait(WAIT_S)
        return item

    results = run_many(work, items(), 4, ordered=ordered)
    # The first item is done as its event is set, or a moment after; the second is looked at when it comes.
    first = next(results)
    answered.set()
    assert (first, sorted(results)) == (0, [1, 2])
