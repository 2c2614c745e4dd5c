"""Work of a blocking client, several pieces at a time in threads, to plain iterators."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Generic, TypeVar

from .transport import finish

WAKE_UP_S = 0.5  # a signal does not end a wait

T = TypeVar("T")
Item = TypeVar("Item")


class Threads:
    """Runs coroutines in threads; also what ``spawn`` is for those that start others."""

    def __init__(self, num_threads: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="reelkind")

    def __call__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> _Running[T]:
        return _Running(self._pool.submit(lambda: finish(make())))

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def iterate(make: Callable[[Threads], AsyncGenerator[T, None]], num_threads: int) -> Generator[T, None, None]:
    """What an asynchronous generator yields, which is closed when this is."""
    with Threads(num_threads) as threads:
        events = make(threads)
        try:
            while True:
                try:
                    event = finish(_next(events))
                except StopAsyncIteration:
                    return
                yield event
        finally:
            finish(_close(events))


def run_many(
    work: Callable[[Item], T], items: Iterable[Item], num_threads: int, *, ordered: bool
) -> Generator[T, None, None]:
    """Results of ``work`` on any number of items, read as the work goes on; in their order, or as each is ready."""
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="reelkind")
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            # Finished ones may queue behind a slow one; and items may be slow to come.
            while len(waiting) >= 2 * num_threads or _is_next_done(waiting, ordered):
                yield _next_result(waiting, ordered)
        while waiting:
            yield _next_result(waiting, ordered)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Running(Generic[T]):
    """A future that is awaited by blocking."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    def cancel(self) -> bool:
        return self._future.cancel()

    def __await__(self) -> Generator[Any, None, T]:
        yield from ()
        return _first_done([self._future]).result()


async def _next(events: AsyncGenerator[T, None]) -> T:
    return await anext(events)


async def _close(events: AsyncGenerator[T, None]) -> None:
    await events.aclose()


def _is_next_done(waiting: deque[Future[T]], ordered: bool) -> bool:
    return any(future.done() for future in islice(waiting, 1 if ordered else None))


def _next_result(waiting: deque[Future[T]], ordered: bool) -> T:
    first = _first_done([waiting[0]] if ordered else waiting)
    waiting.remove(first)
    return first.result()


def _first_done(futures: Collection[Future[T]]) -> Future[T]:
    """Wait for any, but wake up now and then: a signal that came as the wait began is seen only then."""
    while not (done := wait(futures, WAKE_UP_S, FIRST_COMPLETED).done):
        pass
    return next(iter(done))
