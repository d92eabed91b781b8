"""`atbr.cached`: keys, results and the decorator; test_flights.py has threads, tasks and processes."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
import math
import pickle
from collections import namedtuple
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import atbr
from atbr import JSON, Codec, ManualClock, Store, cached
from atbr.memoize import CacheInfo


def counting(store: Store[Any, Any], **options: Any) -> tuple[Callable[..., Any], list[Any]]:
    """Return a cached function that returns what it is given, and the list of its computations."""
    calls: list[Any] = []

    @cached(store, **options)
    def same(value: Any, extra: Any = None) -> Any:
        calls.append(value)
        return value

    return same, calls


# -- keys ------------------------------------------------------------------------------------------


def test_arguments_by_place_by_name_and_by_default_are_the_same_call(
    json_store: Store[Any],
) -> None:
    @cached(json_store)
    def area(a: int, b: int = 2, *rest: int, scale: int = 1, **more: int) -> list[Any]:
        return [a, b, rest == (), scale, more]

    area(1, b=2)
    area(a=1, b=2)
    area(1)
    area(1, 2, scale=1)
    assert area.cache_info() == CacheInfo(hits=3, misses=1, maxsize=None, currsize=1)
    assert area.cache_key(1, x=1, y=2) == area.cache_key(y=2, x=1, a=1)
    different = [
        area.cache_key(1, 2, 3),
        area.cache_key(1, 3),
        area.cache_key(1, x=1),
        area.cache_key(1, **{"x=1,y": 1}),
        area.cache_key(1, x=1, y=1),
        area.cache_key(1, scale=2),
    ]
    assert len(set(different)) == len(different)


# Values that writings could take for one another.
SCALARS = st.one_of(
    st.sampled_from([0, 1, -1, 0.0, -0.0, 1.0, math.inf, math.nan, True, False, None]),
    st.sampled_from(["", "1", "1.0", "True", "None", "a,b", "'", '"', "a'", "(", "#", "b''", "\\"]),
    st.sampled_from([b"", b"1", b"a,b", b"'"]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3).map(frozenset)
    ),
    max_leaves=5,
)
CALLS = st.tuples(
    st.lists(VALUES, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "a=1", "1,b", "", "é"]), VALUES, max_size=3),
)


def tagged(value: Any) -> Any:
    """Return something that is equal for the same value of the same type, and only then."""
    if isinstance(value, tuple | list):
        return (type(value), [tagged(item) for item in value])
    if isinstance(value, frozenset):
        return (frozenset, sorted(repr(tagged(item)) for item in value))
    if isinstance(value, float):
        return (float, "nan" if math.isnan(value) else value.hex())
    return (type(value), value)


@given(CALLS, CALLS)
def test_calls_have_one_key_exactly_if_their_arguments_are_the_same(
    one: tuple[list[Any], dict[str, Any]], other: tuple[list[Any], dict[str, Any]]
) -> None:
    key = FREE.cache_key
    same = tagged(one[0]) == tagged(other[0]) and {n: tagged(v) for n, v in one[1].items()} == {
        n: tagged(v) for n, v in other[1].items()
    }
    assert (key(*one[0], **one[1]) == key(*other[0], **other[1])) is same


@cached(Store(values=JSON))
def FREE(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("bits", [63, 64, 20_000])
def test_long_numbers_have_keys(bits: int, json_store: Store[Any]) -> None:
    same, _ = counting(json_store)
    number = 1 << bits
    assert len({same.cache_key(number), same.cache_key(number + 1), same.cache_key(-number)}) == 3


def test_sets_in_another_order_are_the_same_argument(json_store: Store[Any]) -> None:
    same, _ = counting(json_store, serializer=(repr, eval))
    one, other = frozenset([0, 8]), frozenset([8, 0])
    assert list(one) != list(other)
    assert same.cache_key(one) == same.cache_key(other)


def test_a_long_argument_does_not_make_a_long_key(json_store: Store[Any]) -> None:
    same, calls = counting(json_store)
    texts = ["x" * 100_000, "x" * 99_999 + "y"]
    assert [same(text) for text in texts * 2] == texts * 2
    assert calls == texts
    assert all(len(key) < 200 for key in json_store)


class Colour(enum.IntEnum):
    RED = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value", [[1], {}, {1}, Colour.RED, Point(1, 2), object(), int, 1j, bytearray(), (1, [2])]
)
def test_an_argument_of_another_type_is_refused(value: Any, json_store: Store[Any]) -> None:
    same, calls = counting(json_store)
    with pytest.raises(TypeError, match=r"same is of type \w+, .* pass key="):
        same(value)
    with pytest.raises(TypeError, match="pass key="):
        same(0, extra=value)
    assert not calls


def test_an_error_names_the_argument(json_store: Store[Any]) -> None:
    same, _ = counting(json_store)
    with pytest.raises(TypeError, match=r"^extra of .*same is of type list"):
        same(1, extra=[1])
    with pytest.raises(TypeError, match="missing a required argument"):
        same()


def test_a_method_without_key_is_refused(json_store: Store[Any]) -> None:
    class User:
        @cached(json_store)
        def name(self) -> str:
            return ""

    with pytest.raises(TypeError, match=r"the instance of a method, here User, .* pass key="):
        User().name()


def test_methods_of_all_kinds_are_cached(json_store: Store[Any]) -> None:
    class User:
        def __init__(self, number: int) -> None:
            self.number = number

        @cached(json_store, key=lambda self, more=0: f"{self.number} {more}")
        def name(self, more: int = 0) -> str:
            return f"user {self.number + more}"

        @classmethod
        @cached(json_store, key=lambda cls, number: f"{cls.__name__} {number}")
        def of(cls, number: int) -> str:
            return f"{cls.__name__} {number}"

        @staticmethod
        @cached(json_store)
        def double(number: int) -> int:
            return number * 2

    class Guest(User):
        pass

    for _ in range(2):
        assert (User(1).name(), User(2).name(), User(1).name(more=3)) == (
            "user 1",
            "user 2",
            "user 4",
        )
        assert (User.of(1), Guest.of(1)) == ("User 1", "Guest 1")  # type: ignore[call-arg,arg-type]
        assert User(1).double(4) == 8
    assert User(1).name.cache_info() == CacheInfo(3, 3, None, 3)


@pytest.mark.parametrize("own", ["ключ", b"\xff\x00", ""])
def test_key_may_return_text_or_bytes(own: str | bytes, json_store: Store[Any]) -> None:
    same, calls = counting(json_store, key=lambda value, extra=None: own)
    assert (same([1]), same([2])) == ([1], [1])
    assert calls == [[1]]
    raw = json_store.view(keys=bytes)
    expected = own.encode() if isinstance(own, str) else own
    assert next(iter(raw)).endswith(b"(" + expected + b")")
    same.cache_clear()
    assert not raw


def test_key_must_return_text_or_bytes(json_store: Store[Any]) -> None:
    same, _ = counting(json_store, key=lambda value: 1)
    with pytest.raises(TypeError, match=r"key= of .*same must return str or bytes, not int"):
        same(1)


def test_functions_that_share_a_name_do_not_share_results(json_store: Store[Any]) -> None:
    adders = [cached(json_store)(lambda x, n=n: x + n) for n in range(3)]
    assert [add(1, n) for n, add in enumerate(adders)] == [1, 2, 3]
    one, two = counting(json_store), counting(json_store)
    assert (one[0](1), two[0](1), len(two[1])) == (1, 1, 1)


def test_the_key_of_a_function_of_a_module_is_stable(json_store: Store[Any]) -> None:
    assert FREE.cache_key(1, "ä", b=2.0) == f"{__name__}:FREE(1,'\\xe4',b=2.0)"


def test_clearing_leaves_functions_alone_whose_names_begin_alike(json_store: Store[Any]) -> None:
    def load(value: int) -> int:
        return value

    caches = []
    for name in ("load", "load_all", "load(", "load%28", "lo"):
        load.__qualname__ = name
        caches.append(cached(json_store)(load))
        load = functools.partial(load).func
        caches[-1](1)
    json_store["mine"] = 1
    caches[0](2)
    caches[0].cache_clear()
    assert [cache.cache_info().currsize for cache in caches] == [0, 1, 1, 1, 1]
    assert [cache.cache_info().misses for cache in caches] == [0, 1, 1, 1, 1]
    assert json_store["mine"] == 1


def test_clearing_removes_thousands_of_results(json_store: Store[Any]) -> None:
    same, _ = counting(json_store)
    for number in range(3_000):
        same(number)
    assert same.cache_info().currsize == 3_000
    same.cache_clear()
    assert same.cache_info() == CacheInfo(0, 0, None, 0)
    assert not json_store


# -- results ---------------------------------------------------------------------------------------

PLAIN = [None, True, 0, 1.5, "text", "", [1, [None]], {"a": {"b": [1.0]}}]


@pytest.mark.parametrize("result", PLAIN)
@pytest.mark.parametrize("make", [lambda: Store(values=JSON), lambda: Store(values=bytes)])
def test_results_keep_their_types(make: Callable[[], Store[Any]], result: Any) -> None:
    calls = []

    @cached(make())
    def compute() -> Any:
        calls.append(1)
        return result

    first, second = compute(), compute()
    assert first == second == result
    assert type(second) is type(result)
    assert len(calls) == 1


@pytest.mark.parametrize("result", [b"", b"\x00", b"\xff", b"[1]"])
def test_a_store_of_bytes_keeps_bytes(result: bytes) -> None:
    same, calls = counting(Store(values=bytes))
    assert (same(result), same(result), calls) == (result, result, [result])


def test_a_store_of_text_keeps_text_as_it_is() -> None:
    store = Store()
    same, calls = counting(store)
    assert (same("ä"), same("ä"), calls) == ("ä", "ä", ["ä"])
    assert store[same.cache_key("ä")] == "ä"


def test_a_store_of_text_with_surrogates_keeps_them() -> None:
    same, calls = counting(Store(errors="surrogateescape"))
    assert (same("\udcff"), same("\udcff"), len(calls)) == ("\udcff", "\udcff", 1)


@pytest.mark.parametrize("result", [1, None, b"bytes", Colour.RED])
def test_a_store_of_text_refuses_other_results(result: Any) -> None:
    store = Store()
    same, _ = counting(store, key=lambda value: "key")
    with pytest.raises(TypeError, match=r"same returned an? \w+, .* pass serializer="):
        same(result)
    assert not store


@pytest.mark.parametrize(
    "result", [(1, 2), [(1,)], {1: 2}, {"a": {None: 1}}, {1}, b"x", Colour.RED, [object()]]
)
@pytest.mark.parametrize("options", [{}, {"serializer": JSON}])
def test_what_json_would_change_is_refused(result: Any, options: Any) -> None:
    store: Store[Any] = Store() if options else Store(values=JSON)
    same, _ = counting(store, key=lambda value: "key", **options)
    with pytest.raises(TypeError, match=r"JSON would not give back as it is: pass another seria"):
        same(result)
    assert not store


def test_a_pair_of_functions_serializes_what_it_can() -> None:
    same, calls = counting(Store(values=bytes), key=str, serializer=(pickle.dumps, pickle.loads))
    assert (same((1, {2})), same((1, {2})), len(calls)) == ((1, {2}), (1, {2}), 1)


def test_the_codec_of_the_store_is_the_default() -> None:
    store = Store(values=Codec(dumps=str, loads=int))
    same, calls = counting(store)
    assert (same(7), same(7), calls) == (7, 7, [7])
    assert store[same.cache_key(7)] == 7


def test_callers_do_not_share_a_result(json_store: Store[Any]) -> None:
    same, _ = counting(json_store, key=lambda value: "key")
    first = same([1])
    first.append(2)
    second = same([])
    second.append(3)
    assert same([]) == [1]


def test_a_result_that_found_no_room_is_returned() -> None:
    class Full(Store[Any]):
        __slots__ = ()

        def set(self, *_: Any, **__: Any) -> None:
            raise MemoryError("full")

    store = Full(values=JSON)
    same, calls = counting(store)
    assert (same(1), same(1), calls, len(store)) == (1, 1, [1, 1], 0)


def test_a_result_for_which_a_full_store_has_no_room_is_returned() -> None:
    store: Store[Any] = Store(values=JSON, maxsize=1, on_full="error")
    same, calls = counting(store)
    assert [same(number) for number in (1, 2, 2, 1)] == [1, 2, 2, 1]
    assert calls == [1, 2, 2]


@pytest.mark.parametrize("ttl", [10, 10.0, timedelta(seconds=10)])
def test_results_expire(ttl: Any) -> None:
    clock = ManualClock()
    same, calls = counting(Store(values=JSON, clock=clock, ttl=1), ttl=ttl)
    same(1)
    clock.advance(9.9)
    same(1)
    assert (len(calls), same.cache_info().currsize) == (1, 1)
    clock.advance(0.1)
    assert same.cache_info().currsize == 0
    same(1)
    assert len(calls) == 2


def test_without_ttl_the_default_of_the_store_holds() -> None:
    clock = ManualClock()
    store: Store[Any] = Store(values=JSON, clock=clock, ttl=10)
    (default, _), (forever, _) = counting(store), counting(store, ttl=None)
    default(1)
    forever(1)
    assert store.get_ttl(default.cache_key(1)) == 10
    assert store.get_ttl(forever.cache_key(1)) is None
    clock.advance(10)
    assert (default.cache_info().currsize, forever.cache_info().currsize) == (0, 1)


# -- the decorator ---------------------------------------------------------------------------------


def test_the_function_keeps_its_name_and_signature(json_store: Store[Any]) -> None:
    def plain(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    async def task() -> None: ...

    function = cached(json_store)(plain)
    assert (function.__name__, function.__doc__) == ("plain", "Add.")
    assert function.__wrapped__ is plain
    assert inspect.signature(function) == inspect.signature(plain)
    assert not inspect.iscoroutinefunction(function)
    assert inspect.iscoroutinefunction(cached(json_store)(task))
    assert pickle.loads(pickle.dumps(FREE)) is FREE


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("error", "match", "decorate"),
    [
        (TypeError, "takes a store", lambda: cached(generator)),  # type: ignore[arg-type]
        (TypeError, "is a generator", lambda: cached(Store())(generator)),
        (TypeError, "put @classmethod above", lambda: cached(Store())(classmethod(generator))),
        (TypeError, "that have a name", lambda: cached(Store())(functools.partial(print))),
        (TypeError, "has no signature: pass key=", lambda: cached(Store())(max)),
        (TypeError, "key= must be", lambda: cached(Store(), key="a")),  # type: ignore[arg-type]
        (TypeError, "serializer= must be", lambda: cached(Store(), serializer=str)),  # type: ignore[arg-type]
        (TypeError, "ttl= must be", lambda: cached(Store(), ttl="1")),  # type: ignore[arg-type]
        (ValueError, "ttl= must be", lambda: cached(Store(), ttl=0)),
    ],
)
def test_mistakes_are_refused_when_decorating(
    error: type[Exception], match: str, decorate: Callable[[], object]
) -> None:
    with pytest.raises(error, match=match):
        decorate()


def test_a_closed_store_is_a_value_error(json_store: Store[Any]) -> None:
    same, calls = counting(json_store)
    same(1)
    json_store.close()
    for call in (same, lambda _: same.cache_info(), lambda _: same.cache_clear()):
        with pytest.raises(ValueError, match="closed"):
            call(1)
    assert calls == [1]


def test_a_store_that_closes_meanwhile_is_a_value_error(json_store: Store[Any]) -> None:
    @cached(json_store)
    def closing() -> int:
        json_store.close()
        return 1

    with pytest.raises(ValueError, match="closed"):
        closing()


def test_typed_usage_runs() -> None:
    pytest.importorskip("typing_extensions")
    import typing_cached

    typing_cached.functions()
    typing_cached.methods()
    asyncio.run(typing_cached.coroutines())
    typing_cached.words()
    assert atbr.cached is cached
