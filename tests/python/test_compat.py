"""The words of a time-to-live store of old."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from atbr import JSON, Codec, ManualClock
from atbr.compat import Store

VALUES = [None, 1, 1.5, "text", [1, [2]], {"a": {"b": None}}]


@pytest.mark.parametrize("value", VALUES)
def test_what_was_set_is_got(value: Any) -> None:
    store = Store()
    store.set("key", value)
    assert store.get("key") == value
    assert store.get(b"key") == value


def test_a_missing_key_is_none() -> None:
    store = Store()
    assert store.get("key") is None
    assert store.delete("key") is False


def test_the_class_has_a_store_that_its_callers_share() -> None:
    class Own(Store):
        pass

    Own.set("name", "John")
    assert Own.get("name") == "John"
    assert Own().get("name") is None
    assert Own.delete("name") is True
    assert Own.get("name") is None


def test_every_subclass_has_a_store_of_its_own() -> None:
    class Parent(Store):
        pass

    class Child(Parent):
        pass

    class Careless(Parent):
        def __init_subclass__(cls) -> None:
            pass

    class Neglected(Careless):
        pass

    kinds = [Parent, Child, Careless, Neglected]
    for kind in kinds:
        kind.set("name", kind.__name__)
    assert [kind.get("name") for kind in kinds] == [kind.__name__ for kind in kinds]
    Child.purge()
    assert [kind.get("name") for kind in kinds] == ["Parent", None, "Careless", "Neglected"]


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="classes are immortal here"
)
def test_a_class_that_goes_takes_its_store_along() -> None:
    class Own(Store):
        pass

    Own.set("name", "John")
    gone = weakref.ref(Own)
    del Own
    gc.collect()
    assert gone() is None


def test_a_method_of_a_subclass_may_call_the_one_it_replaces() -> None:
    class Loud(Store):
        def get(self, key: str | bytes) -> Any:  # type: ignore[override]
            return f"{super().get(key)}!"

    store = Loud()
    store.set("name", "John")
    assert store.get("name") == "John!"


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [((), 3_600), ((60,), 60), ((0.5,), 0.5), ((timedelta(days=1),), 86_400)],
)
def test_a_value_is_none_once_it_has_expired(expires: tuple[Any, ...], seconds: float) -> None:
    clock = ManualClock()
    store = Store(clock=clock)
    store.set("key", "value", *expires)
    clock.advance(seconds - 0.001)
    assert store.get("key") == "value"
    clock.advance(0.001)
    assert store.get("key") is None


def test_a_value_without_expiry_stays() -> None:
    clock = ManualClock()
    store = Store(clock=clock)
    store.set("key", "value", expires=None)
    clock.advance(9 * 365 * 86_400)
    assert store.get("key") == "value"


@pytest.mark.parametrize(
    ("expires", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_an_error_names_expires(expires: Any, error: type[Exception]) -> None:
    store = Store()
    with pytest.raises(error, match=r"^expires= must be"):
        store.set("key", "value", expires)
    assert store.get("key") is None


@pytest.mark.parametrize("key", [1, None, ("a",), bytearray(b"a")])
def test_a_key_is_text_or_bytes(key: Any) -> None:
    store = Store()
    for call in (store.get, store.delete, lambda key: store.set(key, 1)):
        with pytest.raises(TypeError, match="key must be str or bytes"):
            call(key)


def test_clean_counts_what_has_expired_since_it_was_called() -> None:
    clock = ManualClock()
    store = Store(clock=clock)
    for number in range(1_000):
        store.set(str(number), number, expires=1 + number % 2 * 100)
    clock.advance(50)
    assert (store.clean(), store.clean(), len(store.store)) == (500, 0, 500)
    clock.advance(100)
    assert (store.clean(), store.clean(), len(store.store)) == (500, 0, 0)


def test_cleaning_threads_together_count_each_entry_once() -> None:
    clock = ManualClock()
    store = Store(clock=clock)
    for number in range(1_000):
        store.set(str(number), number, expires=1)
    clock.advance(10)
    start = threading.Barrier(8)

    def clean(_: int) -> int:
        start.wait(60)
        return store.clean()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(clean, range(8), timeout=60)) == 1_000


def test_purge_empties() -> None:
    store = Store()
    store.set("a", 1)
    store.purge()
    assert (store.get("a"), len(store.store)) == (None, 0)


def test_a_codec_keeps_other_values() -> None:
    class Numbers(Store):
        codec = (str, int)

    Numbers.set("a", 1)
    assert Numbers.get("a") == 1
    assert Numbers(codec=JSON).store.view(values=str) == {}
    texts = Store(codec=Codec(dumps=str, loads=bytes.decode))
    texts.set("a", 1)
    assert texts.get("a") == "1"


@pytest.mark.parametrize("codec", [str, "json", (str,), 1])
def test_a_codec_is_a_codec_or_a_pair(codec: Any) -> None:
    with pytest.raises(TypeError, match="codec= must be"):
        Store(codec=codec)


def test_pickle_is_not_used() -> None:
    store = Store()
    with pytest.raises(TypeError, match="JSON"):
        store.set("a", object())


def test_a_closed_store_is_a_value_error() -> None:
    store = Store()
    store.store.close()
    for call in (lambda: store.get("a"), lambda: store.set("a", 1), store.clean, store.purge):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_threads_that_use_a_class_first_share_one_store() -> None:
    for _ in range(20):

        class Fresh(Store):
            pass

        start = threading.Barrier(16)

        def write(number: int, kind: type[Store] = Fresh, start: Any = start) -> None:
            start.wait(60)
            kind.set(str(number), number)

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(write, range(16), timeout=60))
        assert [Fresh.get(str(number)) for number in range(16)] == list(range(16))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_has_a_copy(run_python: Callable[..., str]) -> None:
    program = """
import os
from atbr.compat import Store
Store.set("name", "John")
child = os.fork()
if child == 0:
    good = Store.get("name") == "John" and Store.clean() == 0
    Store.set("name", "Jane")
    os._exit(0 if good and Store.get("name") == "Jane" else 1)
print(os.waitpid(child, 0)[1], Store.get("name"))
"""
    assert run_python(program) == "0 John\n"


def test_the_end_of_the_interpreter_is_silent(run_python: Callable[..., str]) -> None:
    program = """
import atexit, atbr
def late():
    try:
        atbr.compat.Store.get("name")
    except ValueError as error:
        print(error)
atbr.compat.Store.set("name", "John")
print(atbr.compat.Store.get("name"))
"""
    assert run_python(program) == "John\n"
