"""`atbr.cached` in threads, tasks and processes: one computation of a key at a time."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from atbr import JSON, ManualClock, Store, cached, flights
from atbr.memoize import CacheInfo

SECONDS = 60.0
"""No wait of these tests lasts longer; then they fail."""


@pytest.fixture(autouse=True)
def _no_flight_is_left() -> Iterator[None]:
    yield
    assert not flights._table.flights


class Arrivals:
    """A `key=` that tells when so many callers have come."""

    def __init__(self) -> None:
        self._come = threading.Semaphore(0)

    def __call__(self, *_args: Any, **_kwargs: Any) -> str:
        self._come.release()
        return "key"

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self._come.acquire(timeout=SECONDS)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in so many threads that start together; return results and exceptions."""
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        start.wait(SECONDS)
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count), timeout=SECONDS))


def run_tasks(main: Awaitable[Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, SECONDS))  # type: ignore[arg-type]


# -- threads ---------------------------------------------------------------------------------------


def test_16_threads_compute_once(json_store: Store[Any]) -> None:
    arrivals = Arrivals()
    calls = []

    @cached(json_store, key=arrivals)
    def compute() -> list[int]:
        calls.append(1)
        arrivals.wait(16)
        return [1]

    results = in_threads(16, lambda _: compute())
    assert results == [[1]] * 16
    assert len({id(result) for result in results}) == 16
    assert len(calls) == 1
    assert compute.cache_info() == CacheInfo(hits=15, misses=1, maxsize=None, currsize=1)


def test_an_exception_goes_to_its_own_caller_and_another_computes(json_store: Store[Any]) -> None:
    arrivals = Arrivals()
    calls = []

    @cached(json_store, key=arrivals)
    def compute() -> int:
        calls.append(1)
        if len(calls) == 1:
            arrivals.wait(8)
        if len(calls) < 4:
            raise LookupError(f"call {len(calls)}")
        return 1

    results = in_threads(8, lambda _: compute())
    assert sorted(map(str, results)) == [*"11111", "call 1", "call 2", "call 3"]
    assert len(calls) == 4


def test_exceptions_are_not_stored(json_store: Store[Any]) -> None:
    @cached(json_store)
    def fail() -> int:
        raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            fail()
    assert fail.cache_info() == CacheInfo(0, 3, None, 0)


def test_an_unfit_result_does_not_hold_up_those_who_wait(json_store: Store[Any]) -> None:
    arrivals = Arrivals()
    first = threading.Event()

    @cached(json_store, key=arrivals)
    def compute() -> Any:
        if not first.is_set():
            first.set()
            arrivals.wait(4)
        return (1,)

    assert all(isinstance(result, TypeError) for result in in_threads(4, lambda _: compute()))


def test_no_two_computations_of_a_key_run_at_once() -> None:
    clock = ManualClock()
    store: Store[Any] = Store(values=JSON, clock=clock, ttl=1)
    running: Counter[int] = Counter()
    lock = threading.Lock()
    overlaps = []

    @cached(store)
    def compute(number: int) -> int:
        with lock:
            running[number] += 1
            overlaps.append(running[number])
        clock.advance(0.2)
        fails = random.random() < 0.3
        with lock:
            running[number] -= 1
        if fails:
            raise LookupError
        return number

    def work(own: int) -> None:
        pick = random.Random(own)
        for _ in range(300):
            number = pick.randrange(3)
            with suppress(LookupError):
                assert compute(number) == number

    assert in_threads(8, work) == [None] * 8
    assert set(overlaps) == {1}
    info = compute.cache_info()
    assert info.misses == len(overlaps)


def test_recursion_of_a_key_computes_directly(json_store: Store[Any]) -> None:
    @cached(json_store, key=lambda number: "one key")
    def factorial(number: int) -> int:
        return number * factorial(number - 1) if number else 1

    assert factorial(5) == 120


def test_recursion_of_other_keys_is_cached(json_store: Store[Any]) -> None:
    @cached(json_store)
    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    assert fibonacci(40) == 102_334_155
    assert fibonacci.cache_info().misses == 41


def test_a_thread_with_the_context_of_a_computation_does_not_wait_for_it(
    json_store: Store[Any],
) -> None:
    @cached(json_store, key=lambda helped: "key")
    def compute(helped: bool) -> int:
        if helped:
            return 1
        with ThreadPoolExecutor(1) as pool:
            context = contextvars.copy_context()
            return pool.submit(context.run, compute, True).result(SECONDS) + 1

    assert compute(False) == 2


def test_two_threads_that_need_each_others_key_both_end(json_store: Store[Any]) -> None:
    both = threading.Barrier(2)

    @cached(json_store, key=lambda name, nested=False: name)
    def compute(name: str, nested: bool = False) -> str:
        if nested:
            return name
        both.wait(SECONDS)
        return name + compute("ab"["ba".index(name)], nested=True)

    # Who computes directly gets "a", who waits gets the other's result.
    results = in_threads(2, lambda number: compute("ab"[number]))
    assert sorted(results) in (["ab", "bab"], ["aba", "ba"])


def test_who_takes_over_may_recurse_too(json_store: Store[Any]) -> None:
    arrivals = Arrivals()
    calls = []

    @cached(json_store, key=arrivals)
    def compute(number: int) -> int:
        calls.append(1)
        if len(calls) == 1:
            arrivals.wait(4)
            raise LookupError
        return number * compute(number - 1) if number else 1

    results = in_threads(4, lambda _: compute(3))
    assert sorted(map(str, results)) == ["", "6", "6", "6"]


@pytest.mark.parametrize("failures", [0, 1])
def test_a_computation_keeps_nothing_of_waits_that_are_over(
    failures: int, json_store: Store[Any]
) -> None:
    arrivals = Arrivals()
    begun = threading.Event()
    calls = []

    @cached(json_store, key=arrivals)
    def inner() -> int:
        calls.append(1)
        begun.set()
        if len(calls) == 1:
            arrivals.wait(2)
        if len(calls) <= failures:
            raise LookupError
        return 1

    @cached(json_store)
    def outer() -> int:
        assert begun.wait(SECONDS)
        inner()
        return len(flights._inside.get()[-1].waits_for)

    assert in_threads(2, lambda number: outer() if number else inner())[1] == 0


def test_what_was_begun_before_clearing_is_not_stored(json_store: Store[Any]) -> None:
    started, go_on = threading.Event(), threading.Event()
    calls = []

    @cached(json_store)
    def compute() -> str:
        calls.append(1)
        if len(calls) == 1:
            started.set()
            assert go_on.wait(SECONDS)
            return "old"
        return "new"

    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(compute)
        assert started.wait(SECONDS)
        compute.cache_clear()
        assert compute() == "new"
        compute.cache_clear()
        go_on.set()
        assert old.result(SECONDS) == "old"
    assert len(json_store) == 0


# -- tasks -----------------------------------------------------------------------------------------


def test_100_tasks_compute_once(json_store: Store[Any]) -> None:
    arrivals = Arrivals()
    calls = []

    @cached(json_store, key=arrivals)
    async def compute() -> list[int]:
        calls.append(1)
        await asyncio.get_running_loop().run_in_executor(None, arrivals.wait, 100)
        return [1]

    async def main() -> list[Any]:
        return await asyncio.gather(*(compute() for _ in range(100)))

    results = run_tasks(main())
    assert results == [[1]] * 100
    assert len({id(result) for result in results}) == 100
    assert len(calls) == 1
    assert compute.cache_info() == CacheInfo(hits=99, misses=1, maxsize=None, currsize=1)


def test_loops_in_several_threads_compute_once(json_store: Store[Any]) -> None:
    arrivals = Arrivals()
    calls = []

    @cached(json_store, key=arrivals)
    async def compute() -> int:
        calls.append(1)
        await asyncio.get_running_loop().run_in_executor(None, arrivals.wait, 40)
        return 1

    async def main() -> list[int]:
        return await asyncio.gather(*(compute() for _ in range(10)))

    assert in_threads(4, lambda _: run_tasks(main())) == [[1] * 10] * 4
    assert len(calls) == 1


def test_an_exception_of_a_task_goes_to_its_own_caller(json_store: Store[Any]) -> None:
    calls = []

    async def main() -> list[Any]:
        gate = asyncio.Event()

        @cached(json_store)
        async def compute() -> int:
            calls.append(1)
            await gate.wait()
            if len(calls) < 4:
                raise LookupError(f"call {len(calls)}")
            return 1

        tasks = [asyncio.ensure_future(compute()) for _ in range(8)]
        await all_waiting(7)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = run_tasks(main())
    assert [str(result) for result in results] == ["call 1", "call 2", "call 3", *"11111"]


async def all_waiting(count: int) -> None:
    """Give way until so many callers wait for the one flight there is."""
    while sum(len(flight.waiters) for flight in flights._table.flights.values()) < count:
        await asyncio.sleep(0)


def test_a_waiter_takes_over_from_a_cancelled_task(json_store: Store[Any]) -> None:
    calls = []

    async def main() -> None:
        never, entered = asyncio.Event(), asyncio.Event()

        @cached(json_store)
        async def compute() -> int:
            calls.append(1)
            entered.set()
            if len(calls) == 1:
                await never.wait()
            return len(calls)

        first, *others = [asyncio.ensure_future(compute()) for _ in range(5)]
        await entered.wait()
        await all_waiting(4)
        first.cancel()
        assert await asyncio.gather(*others) == [2, 2, 2, 2]
        assert first.cancelled()

    run_tasks(main())
    assert len(calls) == 2


@pytest.mark.parametrize("also", [0, 1, 2])
def test_cancelled_waiters_do_not_keep_the_others_waiting(
    also: int, json_store: Store[Any]
) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        @cached(json_store)
        async def compute() -> int:
            if not gate.is_set():
                await gate.wait()
                raise LookupError
            return 1

        first, *others = [asyncio.ensure_future(compute()) for _ in range(5)]
        await all_waiting(4)
        # The first that waits is cancelled before, when or after the lead is passed on to it.
        if also == 0:
            others[0].cancel()
        else:
            first.add_done_callback(lambda _: others[0].cancel())
        if also == 2:
            others[2].cancel()
        gate.set()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert isinstance(results[0], LookupError)
        assert set(results[2:]) - {1} == set() or also == 2
        assert results[4] == 1

    run_tasks(main())


def test_recursion_of_a_key_in_tasks_computes_directly(json_store: Store[Any]) -> None:
    @cached(json_store, key=lambda number: "one key")
    async def factorial(number: int) -> int:
        return number * await factorial(number - 1) if number else 1

    @cached(json_store, key=lambda number: "one key")
    async def sum_of_tasks(number: int) -> int:
        if not number:
            return 1
        return sum(await asyncio.gather(sum_of_tasks(number - 1), sum_of_tasks(number - 1)))

    assert run_tasks(factorial(5)) == 120
    assert run_tasks(sum_of_tasks(1)) == 2


def test_two_tasks_that_need_each_others_key_both_end(json_store: Store[Any]) -> None:
    async def main() -> list[str]:
        gate = asyncio.Event()
        started = []

        @cached(json_store, key=lambda name, nested=False: name)
        async def compute(name: str, nested: bool = False) -> str:
            if nested:
                return name
            started.append(name)
            if len(started) == 2:
                gate.set()
            await gate.wait()
            child = asyncio.ensure_future(compute("ab"["ba".index(name)], nested=True))
            return name + await child

        return await asyncio.gather(compute("a"), compute("b"))

    assert sorted(run_tasks(main())) in (["ab", "bab"], ["aba", "ba"])


def test_a_loop_that_stands_still_does_not_hold_up_another(
    json_store: Store[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "LOOK_AGAIN", 2 * SECONDS)
    started = []

    @cached(json_store)
    async def compute() -> int:
        started.append(1)
        if len(started) == 1:
            await asyncio.get_running_loop().create_future()
        return len(started)

    stopped = asyncio.new_event_loop()
    task = stopped.create_task(compute())
    stopped.call_later(0, stopped.stop)
    while not started:
        stopped.call_soon(stopped.stop)
        stopped.run_forever()
    assert run_tasks(compute()) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        stopped.run_until_complete(task)
    stopped.close()


def test_a_loop_that_stops_while_others_wait_does_not_hold_them_up(
    json_store: Store[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "LOOK_AGAIN", 0.001)
    started = []

    @cached(json_store)
    async def compute() -> int:
        started.append(1)
        if len(started) == 1:
            await asyncio.get_running_loop().create_future()
        return len(started)

    stopped = asyncio.new_event_loop()
    task = stopped.create_task(compute())

    async def until_waited_for() -> None:
        while not started:
            await asyncio.sleep(0)
        other = asyncio.get_running_loop().run_in_executor(None, run_tasks, compute())
        await all_waiting(1)
        results.append(other)

    results: list[asyncio.Future[int]] = []
    stopped.run_until_complete(until_waited_for())

    async def result() -> int:
        return await results[0]

    deadline = threading.Event()
    while len(started) < 2 and not deadline.wait(0.001):
        pass
    assert stopped.run_until_complete(asyncio.wait_for(result(), SECONDS)) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        stopped.run_until_complete(task)
    stopped.run_until_complete(stopped.shutdown_default_executor())
    stopped.close()


# -- processes -------------------------------------------------------------------------------------

FORK = """
import os, signal, threading, warnings
import atbr

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
store = atbr.Store(values=atbr.JSON)
started, go_on = threading.Event(), threading.Event()
parent = os.getpid()

@atbr.cached(store)
def compute(name):
    if os.getpid() == parent and name == "slow":
        started.set()
        assert go_on.wait(60)
    return [name, os.getpid() == parent]

assert compute("fast") == ["fast", True]
thread = threading.Thread(target=compute, args=("slow",))
thread.start()
assert started.wait(60)

def fork(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            work()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

def in_child():
    # What the parent stored is there, and what its thread computes does not come any more.
    assert compute("fast") == ["fast", True]
    assert compute("slow") == ["slow", False]
    assert compute.cache_info().misses == 3

fork(in_child)

@atbr.cached(store)
def forks():
    if os.getpid() == parent:
        fork(forks)
    return 1

assert forks() == 1
from atbr import flights
with flights.lock():
    fork(in_child)
go_on.set()
thread.join()
assert compute("slow") == ["slow", True]
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_does_not_wait_for_threads_of_its_parent(
    run_python: Callable[..., str],
) -> None:
    assert run_python(FORK, timeout=120) == "done\n"
