"""The background thread that reclaims: when there is one, what it does in real time, and forks."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from atbr import ManualClock, Store

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts by /proc")
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# What the programs below begin with.
COMMON = """
import gc, os, sys, threading, time
import atbr

def sweepers():
    names = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        except OSError:
            pass
    return names.count("atbr-sweeper")

def wait_for(count):
    end = time.monotonic() + 60
    while sweepers() != count:
        assert time.monotonic() < end, (sweepers(), count)
        time.sleep(0.001)
"""


@LINUX
def test_the_thread_starts_with_the_first_ttl_and_ends_with_the_last_store(
    run_python: Callable[..., str],
) -> None:
    program = (
        COMMON
        + """
before = len(os.listdir("/proc/self/task"))
clock = atbr.ManualClock()
plain = atbr.Store({str(i): "" for i in range(10_000)}, ttl=60, clock=clock)
plain.clear()
gc.collect()
store = atbr.Store({str(i): "" for i in range(10_000)})
store.expire(), store.compact(), store.copy(), store.persist("1"), store.get_ttl("1"), len(store)
store.set("a", "", ttl=None)
store.touch("a")
# The first one used its default ttl.
wait_for(1)
plain.close()
wait_for(0)
assert len(os.listdir("/proc/self/task")) == before
store["b"] = ""
assert sweepers() == 0
many = [atbr.Store() for _ in range(50)]
for one in many:
    one.set("a", "", ttl=1_000)
wait_for(1)
for operation in (
    lambda: one.touch("a", 5), lambda: one.add("b", "", ttl=5), lambda: one.incr("c", ttl=5)
):
    one = atbr.Store({"a": ""})
    operation()
    wait_for(1)
del one, operation
while len(many) > 1:
    many.pop(len(many) * 7 // 10)
gc.collect()
wait_for(1)
many[0].persist("a")
many[0].close()
wait_for(0)
# Again, and with the store dropped instead.
many = [atbr.Store({"a": ""}, ttl=1_000)]
wait_for(1)
many.clear()
gc.collect()
wait_for(0)
assert len(os.listdir("/proc/self/task")) == before
print("done")
"""
    )
    assert run_python(program) == "done\n"


@LINUX
def test_a_process_without_ttls_has_no_thread(
    run_python: Callable[..., str], tmp_path: object
) -> None:
    program = (
        COMMON
        + """
before = len(os.listdir("/proc/self/task"))
path = os.path.join(sys.argv[1], "rows.tsv")
with open(path, "w") as file:
    file.writelines(f"{i}\\t{i}\\n" for i in range(200_000))
stores = [atbr.Store(ttl=None), atbr.Store()]
for store in stores:
    store.load(path, threads=2)
    store.load(path, ttl=None)
    store.set_many({"a": "1"}, ttl=None)
    store.incr("n", ttl=None), store.append("a", "b"), store.setdefault("c", "")
    store.expire(), store.compact(), store.clear()
assert len(os.listdir("/proc/self/task")) == before
print("done")
"""
    )
    assert run_python(program, str(tmp_path)) == "done\n"


def test_what_expires_is_reclaimed_within_a_second() -> None:
    store = Store()
    store["stays"] = ""
    # In ticks of 128 ms, and one more second where the machine is busy.
    started = time.monotonic()
    store.set_many({str(i): "x" * 50 for i in range(20_000)}, ttl=0.25)
    store.set_many({f"later {i}": "" for i in range(1_000)}, ttl=0.6)
    while len(store) > 1:
        late = time.monotonic() - started - 0.6
        assert late < 10, len(store)
        time.sleep(0.005)
    assert list(store) == ["stays"]
    assert store.stats().expirations == 21_000
    assert store.stats().expiring == 0
    assert time.monotonic() - started < 0.6 + 2.5


def test_an_earlier_deadline_wakes_a_thread_that_sleeps_until_a_later_one() -> None:
    store, other = Store(), Store()
    store.set("k", "", ttl=10_000)
    for delay in (0.4, 0.2, 0.05):
        other.set(str(delay), "", ttl=delay)
        store.set(str(delay), "", ttl=delay)
    end = time.monotonic() + 30
    while len(store) + len(other) > 1:
        assert time.monotonic() < end
        time.sleep(0.005)
    assert list(store) == ["k"]


def test_memory_of_what_expired_comes_back() -> None:
    clock = ManualClock()
    store = Store(clock=clock)
    value = "x" * 100
    store.set_many(((f"key {i}", value) for i in range(200_000)), ttl=1)
    full = store.stats().bytes_allocated
    assert full > 20_000_000
    clock.advance(2)
    end = time.monotonic() + 60
    # Each of the 128 shards keeps two chunks of 16 KiB.
    while store.stats().bytes_allocated > full // 5:
        assert time.monotonic() < end, store.stats()
        time.sleep(0.005)
    assert len(store) == 0


def test_stores_that_come_and_go_while_others_expire_are_all_swept() -> None:
    kept = [Store() for _ in range(10)]
    done = threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            stores = [Store() for _ in range(5)]
            for store in stores[::2]:
                store.set("k", "", ttl=0.01)
            del store, stores

    others = [threading.Thread(target=come_and_go) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for round in range(30):
            for store in kept:
                store.set(str(round), "", ttl=0.02)
            time.sleep(0.002)
        end = time.monotonic() + 30
        while any(kept):
            assert time.monotonic() < end, [len(store) for store in kept]
            time.sleep(0.01)
    finally:
        done.set()
        for other in others:
            other.join()
    assert sum(store.stats().expirations for store in kept) == 300


FORKING = (
    COMMON
    + """
import signal

forks = int(sys.argv[1])
store = atbr.Store()
store.set("stays", "", ttl=1_000)
store["plain"] = "1"
for number in range(forks):
    store.set(f"short {number}", "", ttl=0.05)
    wait_for(1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            assert sweepers() == 0
            assert store["plain"] == "1" and store.get_ttl("stays") > 900
            store.set("of the child", "", ttl=0.05)
            wait_for(1)
            while len(store) > 2:
                time.sleep(0.001)
            store.close()
            wait_for(0)
            fresh = atbr.Store({"a": ""}, ttl=1_000)
            wait_for(1)
            status = 0
        finally:
            os._exit(status)
    assert sweepers() == 0
    store.set("of the parent", "", ttl=0.05)
    wait_for(1)
    assert os.waitpid(child, 0)[1] == 0, number
while len(store) > 2:
    time.sleep(0.001)
print("done")
"""
)


@LINUX
@FORKS
def test_the_thread_runs_again_on_both_sides_of_a_fork(run_python: Callable[..., str]) -> None:
    # Warnings are errors, and CPython 3.12 and later warn of threads that are there while it forks.
    assert run_python(FORKING, "25") == "done\n"


@LINUX
@FORKS
@pytest.mark.deep
def test_no_fork_of_500_finds_a_thread(run_python: Callable[..., str]) -> None:
    assert run_python(FORKING, "500", timeout=1_200) == "done\n"


@LINUX
@FORKS
@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.deep)])
def test_no_fork_of_a_process_with_on_expire_warns(
    run_python: Callable[..., str], count: int
) -> None:
    program = (
        COMMON
        + """
told = []
clock = atbr.ManualClock()
stores = [
    atbr.Store(clock=clock, on_expire=lambda key, value: told.append(key)) for _ in range(2)
]
for number in range(int(sys.argv[1])):
    for store in stores:
        store.set(str(number), "", ttl=1)
    clock.advance(2)
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    # So that the threads run again.
    for store in stores:
        store.set("x", "", ttl=1)
    clock.advance(2)
    for store in stores:
        store.expire()
end = time.monotonic() + 60
while len(told) < 4 * int(sys.argv[1]) and time.monotonic() < end:
    time.sleep(0.001)
print(len(told))
"""
    )
    assert run_python(program, str(count), timeout=1_200) == f"{4 * count}\n"


# As test_fork.py's, with ttls. 3.12 and later warn of the writers, which is what this is about.
UNDER_LOAD = """
import os, signal, sys, threading, time, warnings
import atbr

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
forks = int(sys.argv[1])
sys.setswitchinterval(1e-4)
store = atbr.Store(ttl=0.02)
told = [0]

def count(key, value):
    told[0] += 1

other = atbr.Store(on_expire=count)
stop = threading.Event()

def write(own):
    number = 0
    while not stop.is_set():
        number += 1
        name = f"{own} {number % 700}"
        store[name] = "y" * (number % 6_000)
        store.touch(name, 0.001 * (number % 90 + 1))
        store.set(f"long {own} {number % 50}", "", ttl=1_000)
        if number % 5 == 0:
            other.set(name, "", ttl=0.01)
        if number % 7 == 0:
            store.persist(name)
        if number % 11 == 0:
            store.delete(name)
        if number % 100 == 0:
            store.set_many({f"{own} {i}": "b" for i in range(50)}, ttl=0.005)
            store.expire()
            sum(1 for _ in store.items_with_ttl())

writers = [threading.Thread(target=write, args=(own,)) for own in range(4)]
for writer in writers:
    writer.start()
try:
    for number in range(forks):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(60)
                store.clear()
                for i in range(500):
                    store.set(f"child {i}", "c" * (i * 20), ttl=0.01)
                store.set("child", "1", ttl=500)
                assert store.touch("child", 1_000)
                while len(store) > 1:
                    time.sleep(0.001)
                assert list(store) == ["child"] and store.stats().expiring == 1
                copied = store.copy()
                copied.compact()
                assert copied.get_ttl("child") > 900
                before = told[0]
                other.set("told", "", ttl=0.01)
                while told[0] == before:
                    time.sleep(0.001)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status != 0:
            print("fork", number, "ended with", status)
            break
    else:
        print("done")
finally:
    stop.set()
    for writer in writers:
        writer.join()
"""


@FORKS
@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.deep)])
def test_children_of_a_process_that_writes_with_ttls_work(
    run_python: Callable[..., str], count: int
) -> None:
    assert run_python(UNDER_LOAD, str(count), timeout=1_800) == "done\n"


def test_the_sweeper_takes_no_signal_that_the_program_waits_for(
    run_python: Callable[..., str],
) -> None:
    program = """
import os, signal
import atbr
signal.signal(signal.SIGUSR1, signal.SIG_DFL)
store = atbr.Store()
store.set("a", "1", ttl=1_000)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigtimedwait({signal.SIGUSR1}, 60).si_signo == signal.SIGUSR1)
store.set("b", "1", ttl=1)
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1})
"""
    assert run_python(program) == "True\nTrue\n"


def test_after_a_fork_any_operation_resumes_sweeping(run_python: Callable[..., str]) -> None:
    program = """
import os, sys, time
import atbr
store = atbr.Store()
store.set("a", "1", ttl=0.2)
child = os.fork()
end = time.monotonic() + 60
if sys.argv[1] == "write":
    # In another shard, and without a ttl.
    for i in range(1_000):
        store[str(i)] = ""
    store.delete_many(map(str, range(1_000)))
while len(store) and time.monotonic() < end:
    time.sleep(0.01)
if child == 0:
    os._exit(len(store))
print(len(store), os.waitpid(child, 0)[1])
"""
    for operation in ("write", "len"):
        assert run_python(program, operation) == "0 0\n"
