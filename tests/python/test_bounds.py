"""Bounded stores, as Python sees them; the engine's own tests hold the bounds against every write."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import atbr


@pytest.mark.parametrize("maxsize", [1, 3, 100, 5_000])
def test_length_is_never_over_maxsize_and_what_was_set_is_there(maxsize: int) -> None:
    store = atbr.Store(maxsize=maxsize)
    for i in range(2 * maxsize + 10):
        store[f"{i}"] = "value"
        assert store[f"{i}"] == "value"
        assert len(store) == min(i + 1, maxsize)
    assert store.stats().evictions == maxsize + 10
    assert len(list(store)) == maxsize


def test_overwriting_and_changing_evict_nothing() -> None:
    store = atbr.Store({f"{i}": "1" for i in range(1_000)}, maxsize=1_000)
    for i in range(1_000):
        store[f"{i}"] = "22"
        store.incr(f"{i}")
        store.append(f"{i}", "0")
        store.touch(f"{i}", 60)
    assert (len(store), store.stats().evictions) == (1_000, 0)
    assert set(store.values()) == {"230"}


def test_what_is_looked_up_stays_while_others_pass() -> None:
    store = atbr.Store(maxsize=1_000)
    store.set_many({f"hot {i}": "value" for i in range(500)})
    for i in range(20_000):
        store[f"cold {i}"] = "value"
        store.get(f"hot {i % 500}")
    assert sum(f"hot {i}" in store for i in range(500)) > 450


def test_hits_and_misses_are_counted_for_every_kind_of_look_up() -> None:
    store = atbr.Store({"a": "1"})
    assert store["a"] == store.get("a") == "1"
    assert store.get("b") is None
    assert "a" in store
    assert "b" not in store
    assert store.get_many(["a", "b"]) == {"a": "1"}
    assert store.mget(["b", "b", "a"]) == [None, None, "1"]
    with pytest.raises(KeyError):
        store["b"]
    stats = store.stats()
    assert (stats.hits, stats.misses) == (5, 6)


def test_expired_entries_go_before_others() -> None:
    clock = atbr.ManualClock()
    store = atbr.Store(maxsize=100, clock=clock)
    store.set_many({f"short {i}": "" for i in range(50)}, ttl=1)
    store.set_many({f"long {i}": "" for i in range(50)})
    clock.advance(2)
    for i in range(50):
        store[f"new {i}"] = ""
    stats = store.stats()
    assert (len(store), stats.expirations, stats.evictions) == (100, 50, 0)


def test_a_full_store_that_must_not_evict_raises_store_full() -> None:
    store = atbr.Store(maxsize=2, on_full="error")
    store.update(a="1", b="2")
    with pytest.raises(atbr.StoreFull, match="full"):
        store["c"] = "3"
    store["a"] = "changed"
    with pytest.raises(MemoryError) as caught:
        store.update({"a": "again", "c": "3"})
    assert caught.value.written == 1  # type: ignore[attr-defined]
    with pytest.raises(MemoryError) as caught:
        store.set_many([("c", "3"), ("a", "never")])
    assert caught.value.written == 0  # type: ignore[attr-defined]
    assert store["a"] == "again"
    del store["b"]
    store["c"] = "3"
    assert sorted(store) == ["a", "c"]


def test_a_batch_that_finds_a_store_full_says_how_many_pairs_are_in() -> None:
    store = atbr.Store(maxsize=5000, on_full="error")
    with pytest.raises(atbr.StoreFull) as caught:
        store.set_many((str(i), "") for i in range(20_000))
    assert caught.value.written == len(store) == 5000  # type: ignore[attr-defined]


def test_a_value_larger_than_the_bound_is_refused() -> None:
    store = atbr.Store({"small": "value"}, max_bytes=2**20)
    with pytest.raises(atbr.StoreFull):
        store["large"] = "x" * 2**21
    assert dict(store) == {"small": "value"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maxsize": 0}, "maxsize= must be at least 1"),
        ({"max_bytes": 1000}, "max_bytes= must be at least 1048576"),
        ({"maxsize": 10, "on_full": "drop"}, "on_full= must be 'evict' or 'error', not \"drop\""),
    ],
)
def test_bad_bounds_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        atbr.Store(**options)  # type: ignore[call-overload]


@pytest.mark.parametrize("bound", [-1, 2**64, 1.5, "10"])
def test_bounds_are_counts(bound: object) -> None:
    with pytest.raises((OverflowError, TypeError)):
        atbr.Store(maxsize=bound)  # type: ignore[call-overload]


def test_a_load_says_how_many_it_evicted(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text("".join(f"{i}\tvalue\n" for i in range(300_000)))
    store = atbr.Store(maxsize=1_000)
    report = store.load(path)
    assert (report.rows, report.new, len(store)) == (300_000, 300_000, 1_000)
    assert report.evicted == store.stats().evictions == 299_000
    full = atbr.Store(maxsize=1_000, on_full="error")
    with pytest.raises(atbr.StoreFull) as caught:
        full.load(path)
    assert caught.value.report.rows == 1_000  # type: ignore[attr-defined]
    assert len(full) == 1_000


def test_copies_are_bounded_and_views_share_the_bound() -> None:
    store = atbr.Store({"a": "1"}, maxsize=3)
    copy = store.copy()
    view = store.view(values=bytes)
    for i in range(10):
        view[f"{i}"] = b"x"
        copy[f"{i}"] = "x"
    assert len(store) == len(view) == len(copy) == 3


def test_threads_keep_both_bounds() -> None:
    store = atbr.Store(maxsize=3_000, max_bytes=2**20, values=bytes)
    seen: list[tuple[int, int]] = []

    def write(number: int) -> None:
        for i in range(5_000):
            store[f"{number} {i}"] = b"x" * (i % 300)
            if i % 50 == 0:
                seen.append((len(store), store.stats().bytes_allocated))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(entries for entries, _ in seen) <= 3_000
    assert max(size for _, size in seen) <= 2**20 * 1.02
    assert store.stats().evictions > 0


def write_until(store: atbr.Store[str], stop: threading.Event) -> None:
    i = 0
    while not stop.is_set():
        store[f"{i}"] = "value"
        i += 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_keeps_the_bound_that_other_threads_were_writing_against() -> None:
    # The child uses no variable of a closure that the threads use: a free-threaded CPython locks those for a moment,
    # and a lock that is held while the process forks stays so in the child.
    store, stop = atbr.Store(maxsize=500), threading.Event()
    threads = [threading.Thread(target=write_until, args=(store, stop)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for i in range(2_000):
                        store[f"child {i}"] = "value"
                    status = 0 if len(store) == 500 else 2
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
