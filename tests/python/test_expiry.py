"""Times to live: every promise about them, with time moved by a clock of our own."""

from __future__ import annotations

import gc
from collections.abc import Callable
from queue import Queue

from atbr import ManualClock, Store


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


def test_an_expired_key_is_not_compared() -> None:
    clock = ManualClock()
    one = Store({"a": "1", "b": "2"}, clock=clock)
    other = Store({"a": "1"}, clock=clock)
    other.set("c", "3", ttl=1)
    assert one != other
    clock.advance(1)
    # As long as each other, as far as len() tells, and all that `other` yields is in `one`.
    assert one != other
    assert other != one
    assert other == {"a": "1"}
    assert {"a": "1"} == other
    other["b"] = "2"
    other.set("d", "4", ttl=1)
    clock.advance(1)
    assert one == other
    assert other.keys() == {"a", "b"}
    assert other.items() == one.items()


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


def test_a_view_keeps_the_callback_of_its_store() -> None:
    clock = ManualClock()
    seen: Queue[tuple[str, str]] = Queue()
    view = Store(clock=clock, on_expire=lambda *entry: seen.put(entry)).view(values=bytes)
    gc.collect()
    view.set("a", b"1", ttl=1)
    clock.advance(2)
    assert seen.get(timeout=60) == ("a", "1")


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
