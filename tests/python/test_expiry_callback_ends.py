"""The thread of `on_expire` at the interpreter's exit, and on both sides of a fork: each in a fresh interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
# A callback's thread is there when the process forks, which is what this is about.
FORKS_BESIDE_THREADS = """
import warnings
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
"""


def test_the_interpreter_ends_while_callbacks_are_called(run_python: Callable[..., str]) -> None:
    program = """
import sys, threading
import atbr
clock = atbr.ManualClock()
called = threading.Event()

def callback(key, value):
    called.set()
    sum(range(1_000))

stores = [atbr.Store(clock=clock, on_expire=callback) for _ in range(3)]
for store in stores:
    store.set_many({str(i): "" for i in range(2_000)}, ttl=1)
    store.set_many({f"later {i}": "" for i in range(2_000)}, ttl=1_000)
clock.advance(2)
assert called.wait(60)
if sys.argv[1] == "raise":
    raise SystemExit(0)
print("end")
"""
    for how in ("end", "raise"):
        for _ in range(5):
            run_python(program, how, timeout=60)


@NEEDS_FORK
@pytest.mark.parametrize("count", [100, pytest.param(2_000, marks=pytest.mark.deep)])
def test_both_sides_of_a_fork_are_told(run_python: Callable[..., str], count: int) -> None:
    program = """
import os, sys, threading, time
import atbr
clock = atbr.ManualClock()
told = []
store = atbr.Store(clock=clock, on_expire=lambda key, value: told.append((key, value)))
plain = atbr.Store({"a": "1"})

def wait_for(count):
    end = time.monotonic() + 60
    while len(told) < count and time.monotonic() < end:
        time.sleep(0.001)
    assert len(told) == count and len(set(told)) == count, told

for number in range(int(sys.argv[1])):
    told.clear()
    store.set_many({f"before {number} {i}": "" for i in range(10)}, ttl=1)
    store.set_many({f"after {number} {i}": "" for i in range(10)}, ttl=100)
    clock.advance(2)
    wait_for(10)
    # Something expires unseen, and is told on both sides.
    store.set("expired", "1", ttl=1)
    clock.advance(1)
    child = os.fork()
    clock.advance(100)
    store.expire()
    wait_for(21)
    if child == 0:
        store.set("child", "", ttl=1)
        clock.advance(2)
        wait_for(22)
        assert plain["a"] == "1"
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, number
print("told")
"""
    assert run_python(program, str(count), timeout=1_200) == "told\n"


def test_an_exception_of_the_callback_is_reported_and_the_next_entry_comes(
    run_python: Callable[..., str],
) -> None:
    # In a fresh interpreter: pytest has an unraisablehook of its own, which takes anything.
    program = """
import sys, threading
import atbr
sys.stderr = sys.stdout
clock = atbr.ManualClock()
seen = []
three = threading.Event()

def callback(key, value):
    seen.append(key)
    if len(seen) == 3:
        three.set()
    raise [RuntimeError, SystemExit, KeyboardInterrupt][len(seen) % 3]("boom " + key)

store = atbr.Store(clock=clock, on_expire=callback)
store.update(dict.fromkeys("abc", ""))
store.set_many(dict.fromkeys("abc", ""), ttl=1)
clock.advance(1)
store.expire()
assert three.wait(60)
print(sorted(seen))
store.close()
for thread in threading.enumerate():
    if thread.name == "atbr-on-expire":
        thread.join(60)
"""
    printed = run_python(program)
    assert "['a', 'b', 'c']" in printed
    for key in "abc":
        assert f"boom {key}" in printed
    assert "in callback" in printed
    assert printed.count("Exception ignored") == 3


def test_a_fork_does_not_wait_for_a_callback_that_waits_for_the_fork(
    run_python: Callable[..., str],
) -> None:
    program = """
import os, sys, threading, warnings
import atbr
# The callback's thread is there when the process forks, which is what this is about.
warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
clock = atbr.ManualClock()
lock, called = threading.Lock(), threading.Event()
seen, done = [], threading.Event()

def callback(key, value):
    called.set()
    with lock:
        seen.append(key)
    if len(seen) == 2:
        done.set()

store = atbr.Store(clock=clock, on_expire=callback)
store.set("a", "1", ttl=1)
with lock:
    clock.advance(2)
    assert called.wait(60)
    child = os.fork()
if child == 0:
    store.set("b", "1", ttl=1)
    seen.append("")
    clock.advance(2)
    store.expire()
    os._exit(0 if done.wait(60) and seen == ["", "b"] else 1)
assert os.waitpid(child, 0)[1] == 0
store.set("b", "1", ttl=1)
clock.advance(2)
store.expire()
assert done.wait(60)
print(seen)
"""
    assert run_python(program) == "['a', 'b']\n"


def test_a_callback_that_never_ends_does_not_keep_the_interpreter(
    run_python: Callable[..., str],
) -> None:
    program = """
import threading
import atbr
clock, called = atbr.ManualClock(), threading.Event()

def callback(key, value):
    called.set()
    threading.Event().wait()

stores = [atbr.Store(clock=clock, on_expire=callback) for _ in range(3)]
for store in stores:
    store.set("a", "", ttl=1)
clock.advance(2)
assert called.wait(60)
print("end")
"""
    assert run_python(program, timeout=60) == "end\n"


@NEEDS_FORK
def test_what_a_callback_has_not_come_to_is_told_on_both_sides_of_a_fork(
    run_python: Callable[..., str],
) -> None:
    program = """
import os, threading, time
import atbr
clock, lock, called, seen = atbr.ManualClock(), threading.Lock(), threading.Event(), []

def callback(key, value):
    called.set()
    with lock:
        seen.append(key)

store = atbr.Store(clock=clock, on_expire=callback)
store.set_many(dict.fromkeys("abc", ""), ttl=1)
with lock:
    clock.advance(2)
    store.expire()
    assert called.wait(60)
    child = os.fork()
# In the child the callback that ran is not there; of the others nothing more is asked.
wanted = 2 if child == 0 else 3
end = time.monotonic() + 60
while len(seen) < wanted and time.monotonic() < end:
    time.sleep(0.001)
if child == 0:
    os._exit(0 if len(seen) == len(set(seen)) == 2 else 1)
assert os.waitpid(child, 0)[1] == 0
print(sorted(seen))
"""
    assert run_python(FORKS_BESIDE_THREADS + program) == "['a', 'b', 'c']\n"


@NEEDS_FORK
def test_after_a_fork_a_write_is_enough_while_the_main_thread_sleeps(
    run_python: Callable[..., str],
) -> None:
    program = """
import os, threading, time
import atbr
clock, told, lock = atbr.ManualClock(), threading.Event(), threading.Lock()
store = atbr.Store(clock=clock, on_expire=lambda key, value: told.set())
store.set("a", "", ttl=1)
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
lock.acquire()

def work():
    store.set("b", "", ttl=1)
    clock.advance(2)
    store.expire()
    print(told.wait(60))
    lock.release()

threading.Thread(target=work).start()
lock.acquire()
"""
    assert run_python(program) == "True\n"
