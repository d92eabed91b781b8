"""Threads on one handle: nothing is lost, one-step calls are one step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from atbr.tables.conformance.base import Base

THREADS = 6


def in_threads(work: Callable[[int], object]) -> None:
    """Run `work` in some threads at once; raise what one of them raises.

    >>> in_threads(lambda number: None)
    """
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> None:
        barrier.wait(60)
        work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(run, number) for number in range(THREADS)]:
            done.result(timeout=120)


class Parallel(Base):
    """Any method from any thread."""

    def test_threads_write_and_read_without_loss(self) -> None:
        table = self.table("pairs")

        def work(number: int) -> None:
            pairs = [((f"t{number}", i), b"%d" % i) for i in range(600)]
            for at in range(0, 600, 200):
                table.put_many(pairs[at : at + 200])
            assert list(table.get_many([key for key, _ in pairs])) == pairs
            assert list(table.scan(((f"t{number}",), (f"t{number}",)))) == pairs

        in_threads(work)
        assert len(table) == THREADS * 600

    def test_increments_of_threads_add_up(self) -> None:
        table = self.table("text")
        in_threads(lambda _: [table.increment(("n",)) for _ in range(15)])
        assert table[("n",)] == b"%d" % (THREADS * 15)

    def test_of_threads_that_compare_and_set_one_wins_each_round(self) -> None:
        table = self.table("text")
        rounds = 8
        wins: list[tuple[int, int]] = []

        def work(number: int) -> None:
            for i in range(rounds):
                expected = None if i == 0 else b"%d" % (i - 1)
                while table.get(("k",)) == expected:
                    if table.compare_and_set(("k",), expected, b"%d" % i):
                        wins.append((i, number))

        in_threads(work)
        assert sorted(i for i, _ in wins) == list(range(rounds))

    def test_of_threads_that_pop_one_gets_the_value(self) -> None:
        table = self.table("pairs")
        table.put_many((("k", i), b"v") for i in range(20))
        got: list[int] = []

        def work(_number: int) -> None:
            for i in range(20):
                if table.pop(("k", i), None) is not None:
                    got.append(i)

        in_threads(work)
        assert sorted(got) == list(range(20))

    def test_readers_of_an_atomic_batch_see_all_or_nothing(self) -> None:
        table = self.table("pairs")
        if not table.atomic:
            return
        keys = [("k", i) for i in range(50)]
        table.put_many((key, b"0") for key in keys)
        torn: list[set[bytes | None]] = []
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                seen = {value for _, value in table.get_many(keys)}
                if len(seen) != 1:
                    torn.append(seen)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for i in range(60):
                with table.batch() as batch:
                    for key in keys:
                        batch.put(key, b"%d" % i)
        finally:
            done.set()
            reader.join(60)
        assert torn == []
