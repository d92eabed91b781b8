"""Times to live: every promise about them, with time moved by a clock of our own."""

from __future__ import annotations

from collections.abc import Callable

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
    assert other == {"a": "1"}
    other["b"] = "2"
    other.set("d", "4", ttl=1)
    clock.advance(1)
    assert one == other
    assert other.keys() == {"a", "b"}
    assert other.items() == one.items()
