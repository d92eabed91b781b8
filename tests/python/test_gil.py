"""When the GIL is released, by the store's own counters. Nothing here looks at a clock."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atbr import Store
from atbr._core import hold_lock

needs_gil = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there is no GIL to release"
)

# Each program runs in a process of its own, because the verdict is the process's.
PROGRAM = """
import sys, threading
import atbr

kind, threads, lookups, options = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])
store = atbr.Store({"k": "v" * 32}, **options)
stop = threading.Event()
running = threading.Semaphore(0)

def idle():
    running.release()
    stop.wait()

def busy():
    running.release()
    while not stop.is_set():
        pass

others = [threading.Thread(target={"idle": idle, "busy": busy}[kind]) for _ in range(threads)]
for thread in others:
    thread.start()
for _ in others:
    running.acquire()
for _ in range(lookups // 2):
    store["k"]
    "k" in store
stats = store.stats()
stop.set()
for thread in others:
    thread.join()
assert stats.attached + stats.detached == lookups // 2 * 2
print(stats.detached / lookups)
"""


@pytest.fixture
def detached_share(run_python: Callable[..., str]) -> Callable[..., float]:
    def share(kind: str, threads: int, lookups: int = 200_000, **options: Any) -> float:
        return float(run_python(PROGRAM, kind, str(threads), str(lookups), repr(options)))

    return share


@needs_gil
def test_the_only_thread_stays_attached(detached_share: Callable[..., float]) -> None:
    assert detached_share("idle", 0) == 0.0


@needs_gil
def test_beside_an_idle_thread_lookups_release(detached_share: Callable[..., float]) -> None:
    assert detached_share("idle", 1) >= 0.99


@needs_gil
def test_beside_busy_threads_lookups_stay_attached(detached_share: Callable[..., float]) -> None:
    assert detached_share("busy", 3) <= 0.05


@needs_gil
def test_always_and_never_are_obeyed(detached_share: Callable[..., float]) -> None:
    assert detached_share("idle", 0, 1_000, release_gil="always") == 1.0
    assert detached_share("idle", 1, 1_000, release_gil="never") == 0.0


@needs_gil
def test_the_verdict_holds_for_new_threads(run_python: Callable[..., str]) -> None:
    program = """
import threading
import atbr

store = atbr.Store({"k": "v"})
stop = threading.Event()

def busy():
    while not stop.is_set():
        pass

others = [threading.Thread(target=busy) for _ in range(3)]
for thread in others:
    thread.start()
for _ in range(5_000):
    store["k"]
before = store.stats()
late = threading.Thread(target=lambda: [store["k"] for _ in range(50)])
late.start()
late.join()
after = store.stats()
stop.set()
for thread in others:
    thread.join()
print(after.attached - before.attached, after.detached - before.detached)
"""
    assert run_python(program) == "50 0\n"


@pytest.mark.parametrize("release", ["auto", "never"])
def test_a_value_over_4_kib_is_read_detached_every_time(release: Any) -> None:
    store = Store({"small": "x" * 4_096, "big": "x" * 65_536}, release_gil=release)
    for _ in range(100):
        store["small"]
    assert store.stats().detached == 0
    for _ in range(100):
        store["big"]
    stats = store.stats()
    assert (stats.attached, stats.detached) == (100, 100)


class Held:
    """Holds the lock of a key's shard from another thread."""

    def __init__(self, store: Store[str], key: str) -> None:
        self._locked, locked = os.pipe()
        unlock, self._unlock = os.pipe()
        self._rest = (locked, unlock)
        self._thread = threading.Thread(target=hold_lock, args=(store, key, locked, unlock))

    def __enter__(self) -> Held:
        self._thread.start()
        os.read(self._locked, 1)
        return self

    def release(self) -> None:
        os.write(self._unlock, b"x")
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        for descriptor in (self._locked, self._unlock, *self._rest):
            os.close(descriptor)


USES: list[Callable[[Store[str]], Any]] = [
    lambda s: s["k"],
    lambda s: s.get("k"),
    lambda s: "k" in s,
    lambda s: s.mget(["k"]),
    lambda s: s.get_many(["k"]),
    lambda s: s.__setitem__("k", "2"),
    lambda s: s.add("k", "2"),
    lambda s: s.append("k", "2"),
    lambda s: s.set_many({"k": "2"}),
    lambda s: s.delete("k"),
    lambda s: s.pop("k"),
    lambda s: s.setdefault("k", "2"),
    lambda s: s.compare_and_set("k", "v", "2"),
    lambda s: s.delete_many(["k"]),
    lambda s: list(s),
    lambda s: s.clear(),
    lambda s: s.compact(),
    lambda s: s.copy(),
    lambda s: s.close(),
]


@pytest.mark.parametrize("use", USES)
def test_waiting_for_a_lock_lets_other_threads_run(use: Callable[[Store[str]], Any]) -> None:
    store = Store({"k": "v"}, release_gil="never")
    ended = threading.Event()
    with Held(store, "k") as held:
        waiting = threading.Thread(target=lambda: (use(store), ended.set()))
        waiting.start()
        # This thread goes on: it counts, and only then lets the other one have the lock.
        counter = 0
        for _ in range(100_000):
            counter += 1
        assert counter == 100_000
        assert not ended.is_set()
        held.release()
        waiting.join()
    assert ended.is_set()


def test_a_lookup_that_has_to_wait_counts_as_detached() -> None:
    store = Store({"k": "v"}, release_gil="never")
    with Held(store, "k") as held:
        waiting = threading.Thread(target=lambda: store["k"])
        waiting.start()
        held.release()
        waiting.join()
    stats = store.stats()
    assert stats.attached + stats.detached == 1


class Counting:
    """A second thread that counts whenever it gets the GIL, and gives it back at once.

    Nobody is made to give the GIL up meanwhile: the switch interval is an hour.
    """

    def __enter__(self) -> Counting:
        self.count = 0
        self._stop = False
        self._before = sys.getswitchinterval()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        sys.setswitchinterval(3_600)
        return self

    def _run(self) -> None:
        while not self._stop:
            self.count += 1
            os.sched_yield()

    def __exit__(self, *_: object) -> None:
        sys.setswitchinterval(self._before)
        self._stop = True
        self._thread.join()


@needs_gil
@pytest.mark.skipif(not hasattr(os, "sched_yield"), reason="this system cannot yield")
def test_a_second_thread_advances_while_work_is_done_detached(tmp_path: Path) -> None:
    store = Store({str(i): "x" * 100 for i in range(20_000)}, release_gil="never")
    store["big"] = "x" * 65_536
    keys = list(store)
    store.save(tmp_path / "rows.tsv")
    uses: list[Callable[[], Any]] = [
        lambda: store["big"],
        lambda: store.mget(keys),
        lambda: store.get_many(keys),
        lambda: store.set_many(dict.fromkeys(keys, "y")),
        lambda: list(store),
        lambda: list(store.scan("none")),
        lambda: store.save(tmp_path / "rows.tsv"),
        lambda: store.load(tmp_path / "rows.tsv"),
        lambda: store.delete_many(keys),
    ]
    with Counting() as other:
        before = other.count
        for _ in range(10_000):
            store["1"]
        assert other.count == before, "an attached look-up let the other thread in"
        for use in uses:
            before = other.count
            # Whether the other thread wakes up in time is the system's affair: it may take a few.
            for _ in range(100_000):
                use()
                if other.count > before:
                    break
            assert other.count > before
