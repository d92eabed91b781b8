"""What a ttl may be, what it is where it is left out, and which writes replace or keep it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from atbr import JSON, ManualClock, Store

TEN_YEARS = 10 * 365.25 * 24 * 3600


def encoded(values: Any, text: str) -> Any:
    return text.encode() if values is bytes else text


def file_of(folder: Path, *rows: tuple[str, str]) -> Path:
    path = folder / "rows.tsv"
    path.write_text("".join(f"{key}\t{value}\n" for key, value in rows))
    return path


# -- what a ttl may be -----------------------------------------------------------------------------


class Floating:
    """As a number of numpy: neither int nor float, but it can be made one."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __float__(self) -> float:
        return float(self.seconds)


class Indexed:
    def __index__(self) -> int:
        return 60


class Refusing:
    def __float__(self) -> float:
        raise ZeroDivisionError


class Seconds(float):
    """A float's subclass, as numpy.float64 is."""


def load_one(store: Store[Any], ttl: Any, folder: Path) -> None:
    store.load(file_of(folder, ("k", '"v"')), ttl=ttl)


# Each writes the key "k", as new, with a ttl.
WRITES: dict[str, Callable[[Store[Any], Any, Path], object]] = {
    "set": lambda store, ttl, _: store.set("k", "v", ttl=ttl),
    "set, by position": lambda store, ttl, _: store.set("k", "v", ttl),
    "set_many": lambda store, ttl, _: store.set_many({"k": "v"}, ttl=ttl),
    "set_many of an iterator": lambda store, ttl, _: store.set_many(iter([("k", "v")]), ttl),
    "add": lambda store, ttl, _: store.add("k", "v", ttl=ttl),
    "setdefault": lambda store, ttl, _: store.setdefault("k", "v", ttl=ttl),
    "incr": lambda store, ttl, _: store.incr("k", ttl=ttl),
    "touch": lambda store, ttl, _: (store.add("k", "v", ttl=5), store.touch("k", ttl)),
    "touch of a lasting key": lambda store, ttl, _: (
        store.set("k", "v", ttl=None),
        store.touch("k", ttl=ttl),
    ),
    "load": load_one,
}
WRITE = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
# What is stored as 60 seconds.
MINUTES = [60, 60.0, Seconds(60), timedelta(minutes=1), Floating(60), Indexed(), Decimal(60)]
NO_NUMBERS = ["60", b"60", True, False, 1j, [60], {}, object(), Refusing(), float, "nan"]
OUT_OF_RANGE = [
    *(0, 0.0, -0.0, -1, -1e-9, math.nan, math.inf, -math.inf, 10**400, -(10**400), 1e308),
    *(TEN_YEARS + 0.001, int(TEN_YEARS) + 1, 2**63, 2**64, Fraction(-1, 2), Floating(math.nan)),
    *(timedelta(0), timedelta(microseconds=-1), timedelta.max, timedelta.min, timedelta(3653)),
]


@WRITE
@pytest.mark.parametrize("ttl", [*MINUTES, Fraction(60)], ids=repr)
def test_seconds_and_timedeltas_are_a_ttl(write: Any, ttl: Any, tmp_path: Path) -> None:
    store = Store(clock=ManualClock())
    write(store, ttl, tmp_path)
    assert store.get_ttl("k") == 60.0
    assert type(store.get_ttl("k")) is float


@WRITE
@pytest.mark.parametrize("ttl", NO_NUMBERS, ids=lambda ttl: type(ttl).__name__)
def test_what_is_no_number_is_no_ttl(write: Any, ttl: Any, tmp_path: Path) -> None:
    store = Store(clock=ManualClock())
    with pytest.raises(TypeError, match=r"ttl= must be seconds, a timedelta or None"):
        write(store, ttl, tmp_path)
    assert store.get_ttl("k") in {None, 5.0} if "k" in store else True


@WRITE
@pytest.mark.parametrize("ttl", OUT_OF_RANGE, ids=lambda ttl: repr(ttl)[:20])
def test_a_ttl_out_of_range_is_refused_and_nothing_written(
    write: Any, ttl: Any, tmp_path: Path
) -> None:
    store = Store(clock=ManualClock())
    with pytest.raises(ValueError, match="more than 0 and at most 10 years"):
        write(store, ttl, tmp_path)
    assert store.get_ttl("k") in {None, 5.0} if "k" in store else True
    assert store.stats().expiring == int(store.get("k") is not None and store.get_ttl("k") == 5)


@WRITE
def test_the_limits_themselves_are_in_range(write: Any, tmp_path: Path) -> None:
    for ttl, left in [
        (TEN_YEARS, TEN_YEARS),
        (int(TEN_YEARS), TEN_YEARS),
        (timedelta(seconds=TEN_YEARS), TEN_YEARS),
        (0.001, 0.001),
        (timedelta(milliseconds=1), 0.001),
        # What is left of a millisecond counts as one.
        (timedelta(microseconds=1), 0.001),
        (5e-324, 0.001),
        (0.0101, 0.011),
    ]:
        store = Store(clock=ManualClock())
        write(store, ttl, tmp_path)
        assert store.get_ttl("k") == left


def test_whole_milliseconds_are_kept_as_they_are() -> None:
    store = Store(clock=ManualClock())
    for milliseconds in [*range(1, 20_000), *range(315_575_990_000, 315_576_000_000, 13)]:
        store.set("k", "", ttl=milliseconds / 1_000)
        assert store.get_ttl("k") == milliseconds / 1_000


def test_no_write_imports_a_module(run_python: Callable[..., str]) -> None:
    # A process that forks meanwhile would find the module's lock taken, and no thread that will ever give it back.
    program = """
import sys, atbr
before = set(sys.modules)
store = atbr.Store(ttl=5)
store.set("a", "1", ttl=5)
store.set("a", "1", ttl=5.0)
try:
    store.touch("a", "5")
except TypeError:
    pass
list(store.items_with_ttl()), store.copy(), store.expire()
print(set(sys.modules) - before)
"""
    assert run_python(program) == "set()\n"


def test_the_default_of_a_store_is_checked_as_any_ttl() -> None:
    for ttl in MINUTES:
        store = Store({"k": "v"}, ttl=ttl, clock=ManualClock())
        assert store.get_ttl("k") == 60.0
    for ttl in NO_NUMBERS:
        with pytest.raises(TypeError, match="ttl="):
            Store(ttl=ttl)
    for ttl in OUT_OF_RANGE:
        with pytest.raises(ValueError, match="10 years"):
            Store(ttl=ttl)
    assert Store({"k": "v"}, ttl=None).get_ttl("k") is None


def test_a_ttl_that_is_refused_raises_before_an_iterator_is_read(store: Store[str]) -> None:
    pairs = iter([("a", "1")])
    with pytest.raises(ValueError, match="ttl="):
        store.set_many(pairs, ttl=0)
    assert next(pairs) == ("a", "1")


# -- absent, None, and what becomes of the ttl that was --------------------------------------------


@WRITE
@pytest.mark.parametrize("default", [None, 60])
def test_absent_is_the_default_and_none_is_never(
    write: Any, default: float | None, tmp_path: Path
) -> None:
    # Code that passes its own argument on may pass `...` for "left out".
    store = Store(ttl=default, clock=ManualClock())
    write(store, ..., tmp_path)
    assert store.get_ttl("k") == default
    store = Store(ttl=default, clock=ManualClock())
    write(store, None, tmp_path)
    assert store.get_ttl("k") is None


def test_writes_without_a_ttl_use_the_default(values: Any, tmp_path: Path) -> None:
    value = encoded(values, "1")
    path = file_of(tmp_path, ("load", '"1"'))
    for default in (None, 60.0):
        store: Store[Any] = Store({"init": value}, values=values, ttl=default, clock=ManualClock())
        store["item"] = value
        store.set("set", value)
        store.set_many({"set_many": value})
        store.update({"update": value}, keyword=value)
        store |= {"or": value}
        store.add("add", value)
        store.setdefault("setdefault", value)
        store.incr("incr")
        store.compare_and_set("compare_and_set", None, value)
        store.load(path)
        if values is not JSON:
            store.append("append", value)
        for key in store:
            assert store.get_ttl(key) == default, key
        assert len(store) >= 11
    made = Store.fromkeys("ab", "1", ttl=60, clock=ManualClock())
    assert [made.get_ttl(key) for key in "ab"] == [60.0, 60.0]


REPLACING: dict[str, Callable[[Store[Any], Any, Path], object]] = {
    "[]": lambda store, value, _: store.__setitem__("k", value),
    "set": lambda store, value, _: store.set("k", value),
    "update": lambda store, value, _: store.update({"k": value}),
    "|=": lambda store, value, _: store.__ior__({"k": value}),
    "set_many": lambda store, value, _: store.set_many({"k": value}),
    "update from a store": lambda store, value, _: store.update(
        Store({"k": value}, values=store.view()._codec_of_values() or type(value), ttl=5)
    ),
    "load": lambda store, _, folder: store.load(file_of(folder, ("k", "22"))),
    "touch": lambda store, _, __: store.touch("k"),
}


@pytest.mark.parametrize("write", REPLACING.values(), ids=REPLACING)
@pytest.mark.parametrize("before", [None, 7.0])
@pytest.mark.parametrize("default", [None, 60.0])
def test_assignments_replace_the_ttl(
    write: Any, before: float | None, default: float | None, values: Any, tmp_path: Path
) -> None:
    store: Store[Any] = Store(values=values, ttl=default, clock=ManualClock())
    store.set("k", encoded(values, "1"), ttl=before)
    write(store, encoded(values, "22"), tmp_path)
    assert store.get_ttl("k") == default


KEEPING: dict[str, Callable[[Store[Any], Any], object]] = {
    "incr": lambda store, _: store.incr("k"),
    "incr with a ttl": lambda store, _: store.incr("k", 10, initial=5, ttl=99),
    "append": lambda store, tail: store.append("k", tail),
    "append that makes a block": lambda store, tail: store.append("k", tail * 5_000),
    "append to a block": lambda store, tail: (
        store.append("k", tail * 5_000),
        store.append("k", tail * 9_000),
    ),
    "compare_and_set": lambda store, tail: store.compare_and_set("k", tail, tail + tail),
    "compare_and_set that fails": lambda store, tail: store.compare_and_set("k", tail * 2, tail),
    "add": lambda store, tail: store.add("k", tail, ttl=99),
    "setdefault": lambda store, tail: store.setdefault("k", tail, ttl=99),
    "load that keeps the first": lambda store, _: None,
}


@pytest.mark.parametrize("write", KEEPING.values(), ids=KEEPING)
@pytest.mark.parametrize("before", [None, 7.0])
@pytest.mark.parametrize("kind", [str, bytes])
def test_other_writes_keep_the_ttl(
    write: Any, before: float | None, kind: type, clock: ManualClock, tmp_path: Path
) -> None:
    store: Store[Any] = Store(values=kind, ttl=60, clock=clock)
    store.set("k", encoded(kind, "1"), ttl=before)
    clock.advance(1)
    write(store, encoded(kind, "1"))
    store.load(file_of(tmp_path, ("k", "2")), keep="first", ttl=99)
    assert store.get_ttl("k") == (before and before - 1)
    clock.advance(6)
    assert ("k" in store) == (before is None)


def test_an_incr_that_fails_leaves_the_ttl(clock: ManualClock) -> None:
    store = Store(clock=clock)
    store.set("k", "no number", ttl=5)
    store.set("n", str(2**63 - 1), ttl=5)
    with pytest.raises(ValueError, match="integer"):
        store.incr("k", ttl=99)
    with pytest.raises(OverflowError):
        store.incr("n", ttl=99)
    assert store.get_ttl("k") == store.get_ttl("n") == 5


def test_ctrl_c_while_a_number_is_asked_for_is_not_a_type_error() -> None:
    class Interrupted:
        def __float__(self) -> float:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store().set("a", "1", ttl=Interrupted())  # type: ignore[arg-type]


@pytest.mark.parametrize("time", [True, "1", None, b"1", [1]])
def test_a_clock_that_is_moved_by_no_number_says_so(time: Any) -> None:
    with pytest.raises(TypeError, match="a clock moves by seconds or a timedelta, not "):
        ManualClock().advance(time)
