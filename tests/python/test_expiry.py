"""Times to live: every promise about them, with time moved by a clock of our own."""

from __future__ import annotations

from collections.abc import Callable


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
