"""Many threads on one store."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from atbr import Store


@pytest.fixture(autouse=True)
def _switch_often() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run(*works: Callable[[], None]) -> None:
    """Run each in a thread; raise what one of them raised."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def guarded(work: Callable[[], None]) -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("release", ["auto", "always", "never"])
def test_no_increment_is_lost(release: Any) -> None:
    store = Store(release_gil=release)

    def count() -> None:
        for _ in range(5_000):
            store.incr("n")

    run(*[count] * 4)
    assert store["n"] == "20000"


def test_no_append_is_lost_or_torn() -> None:
    store = Store()

    def append(letter: str) -> Callable[[], None]:
        return lambda: [store.append("log", letter * 7) for _ in range(2_000)] and None

    run(*map(append, "abcd"))
    log = store["log"]
    assert len(log) == 4 * 2_000 * 7
    pieces = [log[i : i + 7] for i in range(0, len(log), 7)]
    assert {piece: pieces.count(piece) for piece in set(pieces)} == {c * 7: 2_000 for c in "abcd"}


def test_exactly_one_thread_wins_an_add_and_a_compare_and_set() -> None:
    store = Store()
    wins: dict[str, list[int]] = defaultdict(list)

    def compete(own: int) -> Callable[[], None]:
        def work() -> None:
            for i in range(2_000):
                if store.add(f"add {i}", str(own)):
                    wins[f"add {i}"].append(own)
                if store.compare_and_set(f"cas {i}", None, str(own)):
                    wins[f"cas {i}"].append(own)
                if store.pop(f"pop {i}", None) is not None:
                    wins[f"pop {i}"].append(own)

        return work

    store.update({f"pop {i}": "" for i in range(2_000)})
    run(*[compete(own) for own in range(4)])
    assert len(wins) == 6_000
    assert all(len(winners) == 1 for winners in wins.values())
    assert all(store[f"add {i}"] == str(wins[f"add {i}"][0]) for i in range(2_000))


@pytest.mark.parametrize("size", [10, 3_000, 70_000])
def test_a_reader_never_sees_a_half_written_value(size: int) -> None:
    store = Store({"k": "a" * size})
    done = threading.Event()

    def write() -> None:
        for i in range(600):
            store["k"] = "abcdefgh"[i % 8] * (size + i % 5)
        done.set()

    def read() -> None:
        while not done.is_set():
            for value in (store["k"], store.mget(["k"])[0], next(iter(store.values()))):
                assert value is not None
                assert value == value[0] * len(value)

    run(write, write, read, read)


def test_single_keys_are_linearizable() -> None:
    """A register that only grows: nobody may see it shrink, not even through another operation."""
    store = Store({f"r{i}": "0" for i in range(8)})
    done = threading.Event()

    def write(own: int) -> Callable[[], None]:
        def work() -> None:
            # Each register has one writer.
            for number in range(1, 1_500):
                for register in (own, own + 4):
                    store[f"r{register}"] = str(number)
            if own == 0:
                done.set()

        return work

    def read() -> None:
        seen = [0] * 8
        rng = random.Random(0)
        names = [f"r{i}" for i in range(8)]
        while not done.is_set():
            how = rng.randrange(5)
            if how == 0:
                i = rng.randrange(8)
                now = {i: store[names[i]]}
            elif how == 1:
                now = dict(enumerate(store.mget(names, "")))
            elif how == 2:
                now = {int(key[1:]): value for key, value in store.get_many(names).items()}
            elif how == 3:
                now = {int(key[1:]): value for key, value in store.items()}
            else:
                i = rng.randrange(8)
                now = {i: store.setdefault(names[i], "-1")}
            for i, value in now.items():
                assert int(value) >= seen[i]
                seen[i] = int(value)

    run(write(0), write(1), write(2), write(3), read, read)


def test_a_key_that_is_there_throughout_is_always_iterated() -> None:
    stable = {f"stable {i}": "x" for i in range(3_000)}
    store = Store(stable)
    done = threading.Event()

    def disturb() -> None:
        rng = random.Random(1)
        for i in range(20_000):
            store[f"new {rng.randrange(5_000)}"] = "y" * (i % 300)
            store.delete(f"new {rng.randrange(5_000)}")
        done.set()

    def iterate() -> None:
        while not done.is_set():
            keys = list(store)
            assert len(keys) == len(set(keys))
            assert stable.keys() <= set(keys)

    run(disturb, iterate)


def test_getting_setting_iterating_and_collecting_garbage_at_once_ends() -> None:
    store = Store({str(i): str(i) for i in range(500)})

    class Touch:
        """Uses the store when the garbage collector finds it."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            store["touched"] = "1"
            list(store.scan("1"))
            store.mget(["1", "2"])

    def get() -> None:
        for i in range(4_000):
            store.get(str(i % 600))

    def put() -> None:
        for i in range(4_000):
            store[str(i % 600)] = "x" * (i % 5_000)

    def iterate() -> None:
        for _ in range(30):
            dict(store.items())

    def collect() -> None:
        for _ in range(60):
            Touch()
            gc.collect()

    def batch() -> None:
        for _ in range(100):
            store.set_many({str(i): "b" for i in range(100)})
            store.get_many([str(i) for i in range(100)])

    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        run(get, put, iterate, collect, batch, get)
    finally:
        gc.set_threshold(*before)
    assert store["touched"] == "1"


def test_closing_while_others_work_raises_nothing_else() -> None:
    for _ in range(10):
        store = Store({str(i): "x" for i in range(1_000)})
        started = threading.Event()

        def write_and_read(store: Store[str] = store, started: threading.Event = started) -> None:
            while True:
                store["1"] = store.get("2", "") + "."
                store["2"] = ""
                sum(1 for _ in store.items())
                store.mget(["1", "2", "3"])
                started.set()

        def use(work: Callable[[], None] = write_and_read) -> None:
            with pytest.raises(ValueError, match="closed"):
                work()

        def close(store: Store[str] = store, started: threading.Event = started) -> None:
            started.wait()
            store.close()

        run(use, use, close)
