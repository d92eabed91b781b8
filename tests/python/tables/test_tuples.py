"""Tuple keys against PyPI foundationdb's fdb.tuple, byte for byte, and against the order of Python's tuples."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from atbr.tables import BadKey, pack, unpack

EDGES = st.builds(
    lambda bits, by, sign: sign * ((1 << bits) + by),
    st.sampled_from([0, 7, 8, 15, 16, 31, 32, 55, 56, 62, 63, 64, 65, 127, 128, 1_000, 2_039]),
    st.integers(-2, 2),
    st.sampled_from([-1, 1]),
)
INTS = st.one_of(st.integers(-300, 300), st.integers(-(2**70), 2**70), EDGES)
TEXTS = st.text(
    st.one_of(st.sampled_from("\0\x01a\xff€😀"), st.characters(exclude_categories=["Cs"]))
)
BYTES = st.one_of(st.binary(max_size=12), st.lists(st.sampled_from([0, 1, 255])).map(bytes))
FLOATS = st.floats(allow_nan=False)
LEAVES = st.one_of(st.none(), st.booleans(), INTS, TEXTS, BYTES, FLOATS, st.uuids())
TUPLES: st.SearchStrategy[tuple[Any, ...]] = st.lists(
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8),
    max_size=4,
).map(tuple)
MOMENTS = st.datetimes(timezones=st.just(timezone.utc))


def same(one: Any, other: Any) -> bool:
    """Equal, and of equal types all the way down: True is no 1 here, and -0.0 no 0.0."""
    return repr(one) == repr(other)


@settings(max_examples=1_500, deadline=None)
@given(TUPLES)
@example((2**64 - 1, 1 - 2**64, 2**64, -(2**64), 2**2_040 - 1, 1 - 2**2_040))
@example(((), ((), None), (None,), "\0", b"\0\xff", -0.0, 0.0))
def test_the_bytes_are_foundationdbs(parts: tuple[Any, ...]) -> None:
    theirs = pytest.importorskip("fdb.tuple")
    packed = pack(parts)
    assert packed == theirs.pack(parts)
    assert same(unpack(packed), parts)
    assert same(unpack(packed), theirs.unpack(packed))


def rank(value: Any) -> int:
    kinds: list[Any] = [type(None), bytes, str, tuple, int, float, bool, UUID, datetime]
    return kinds.index(type(value))


def comes_before(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Compare as the documentation says, part by part: the slow counterpart of comparing bytes."""
    for a, b in zip(one, other, strict=False):
        if rank(a) != rank(b):
            return rank(a) < rank(b)
        if isinstance(a, tuple):
            if comes_before(a, b) or comes_before(b, a):
                return comes_before(a, b)
        elif isinstance(a, float) and a == b:
            if math.copysign(1, a) != math.copysign(1, b):
                return math.copysign(1, a) < 0
        elif a != b:
            return bool(a < b)
    return len(one) < len(other)


@settings(max_examples=1_500, deadline=None)
@given(st.one_of(st.tuples(TUPLES, TUPLES), st.tuples(st.tuples(MOMENTS), st.tuples(MOMENTS))))
def test_the_order_of_bytes_is_the_order_of_tuples(pair: tuple[Any, Any]) -> None:
    one, other = pair
    assert (pack(one) < pack(other)) == comes_before(one, other)
    assert (pack(one) == pack(other)) == same(one, other)


@settings(max_examples=400, deadline=None)
@given(TUPLES, TUPLES)
def test_a_prefix_is_one_range(prefix: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    low = pack(prefix)
    assert low <= pack(prefix + other) < low + b"\xff"
    assert (low <= pack(other) < low + b"\xff") == same(other[: len(prefix)], prefix)


@settings(max_examples=400, deadline=None)
@given(st.datetimes(timezones=st.timezones()))
@example(datetime.min.replace(tzinfo=timezone.utc))
@example(datetime.max.replace(tzinfo=timezone.utc))
@example(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc))
def test_a_moment_comes_back_in_utc(moment: datetime) -> None:
    try:
        utc = moment.astimezone(timezone.utc)
    except OverflowError:
        with pytest.raises(BadKey, match="out of range"):
            pack((moment,))
        return
    (back,) = unpack(pack((moment,)))
    assert back == utc
    assert back.tzinfo is timezone.utc
    assert back.isoformat() == utc.isoformat()


@settings(max_examples=2_000, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(TUPLES, st.binary(max_size=3)).map(lambda t: pack(t[0]) + t[1]),
    )
)
def test_any_bytes_are_refused_or_are_the_one_form_of_a_tuple(data: bytes) -> None:
    try:
        parts = unpack(data)
    except ValueError:
        return
    assert pack(parts) == data


def test_a_deep_tuple_is_refused_and_ends_no_process() -> None:
    deep: Any = ()
    for _ in range(63):
        deep = (deep,)
    assert unpack(pack((deep,))) == (deep,)
    with pytest.raises(BadKey, match="nested deeper"):
        pack(((deep,),))
    with pytest.raises(ValueError, match="nested too deeply"):
        unpack(b"\x05" * 1_000_000)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (math.nan, "NaN"),
        ("\ud800", "surrogate"),
        (2**2_040, "256|255"),
        (-(2**2_040), "255"),
        (1j, "complex"),
        ([1], "list"),
        (bytearray(b""), "bytearray"),
        (datetime(2020, 1, 1), "time zone"),
        (timedelta(1), "timedelta"),
    ],
)
def test_what_has_no_place_in_a_key_is_named(part: Any, message: str) -> None:
    for parts in ((part,), ("a", ("b", part))):
        with pytest.raises(BadKey, match=message):
            pack(parts)


@pytest.mark.parametrize("parts", [["a"], "a", None, b"a", {"a"}])
def test_only_a_tuple_is_packed(parts: Any) -> None:
    with pytest.raises(BadKey, match="only a tuple"):
        pack(parts)


def test_a_uuid_comes_back_as_its_constructor_makes_it() -> None:
    made = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    (back,) = unpack(pack((made,)))
    assert (back, hash(back), repr(back), back.is_safe) == (
        made,
        hash(made),
        repr(made),
        made.is_safe,
    )
    assert type(back) is UUID


def test_subclasses_count_as_their_base() -> None:
    class Text(str): ...

    class Number(int): ...

    class Several(tuple): ...  # type: ignore[type-arg]

    assert pack((Text("a"), Number(1), Several(("b",)))) == pack(("a", 1, ("b",)))


def test_a_reader_of_random_bytes_takes_a_bounded_time_for_each() -> None:
    for code in range(256):
        for tail in (b"", b"\0", b"\xff" * 300, bytes(300)):
            try:
                unpack(bytes([code]) + tail)
            except ValueError:
                continue
