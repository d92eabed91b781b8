"""Iterators, scans and views."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, ItemsView, KeysView, ValuesView
from typing import Any

import pytest

from atbr import Store

MANY = 20_000


@pytest.fixture
def full() -> Store[str]:
    return Store({f"key:{i:05}": f"v{i}" for i in range(MANY)})


def test_iteration_yields_every_key_once(full: Store[str]) -> None:
    keys = list(full)
    assert len(keys) == len(set(keys)) == MANY
    assert set(full.items()) == {(f"key:{i:05}", f"v{i}") for i in range(MANY)}
    assert sorted(full.values()) == sorted(f"v{i}" for i in range(MANY))


def test_iteration_sees_once_what_is_there_throughout(full: Store[str]) -> None:
    stable = set(full)
    seen = []
    for number, key in enumerate(full):
        seen.append(key)
        full[f"new {number}"] = "x" * (number % 200)
        full[key] = "changed"
        full.delete(f"new {number // 2}")
    assert len(seen) == len(set(seen))
    assert stable <= set(seen)


def test_iteration_survives_deleting_everything(full: Store[str]) -> None:
    seen = []
    for key in full:
        seen.append(key)
        full.delete(key)
        if len(seen) == 100:
            full.clear()
    assert len(seen) == len(set(seen))
    assert not full


def test_an_exhausted_iterator_stays_exhausted(store: Store[str]) -> None:
    iterator = iter(store)
    assert list(iterator) == []
    store["a"] = "1"
    assert next(iterator, None) is None


def test_an_iterator_keeps_the_data_alive() -> None:
    iterator = iter(Store({"a": "1"}).items())
    gc.collect()
    assert list(iterator) == [("a", "1")]


def test_no_lock_is_held_between_two_items(full: Store[str]) -> None:
    for key, value in full.items():
        assert full[key] == value
        full[key] = value
        break
    full.clear()


def test_scan_finds_prefixes(full: Store[str]) -> None:
    expected = {f"key:{i:05}" for i in range(1_230, 1_240)}
    assert set(full.scan("key:0123")) == expected
    assert set(full.scan(prefix=b"key:0123", count=1)) == expected
    assert set(full.view(keys=bytes).scan("key:0123")) == {key.encode() for key in expected}
    assert list(full.scan("none")) == []
    assert set(full.scan("")) == set(full)


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        ("*", ".*"),
        ("key:0000?", "key:0000."),
        ("*99*", ".*99.*"),
        ("key:[0-1]*[^0-8]", "key:[0-1].*[^0-8]"),
        ("key:0\\*", "key:0[*]"),
        ("", ""),
    ],
)
def test_scan_matches_as_a_regular_expression_would(
    full: Store[str], pattern: str, expression: str
) -> None:
    full["key:0*"] = ""
    matching = {key for key in full if re.fullmatch(expression, key)}
    assert set(full.scan(match=pattern)) == matching
    assert set(full.scan(prefix="key:0", match=pattern)) == {
        key for key in matching if key.startswith("key:0")
    }


@pytest.mark.parametrize("count", [0, 1, 7, 100_000_000])
def test_count_changes_nothing_but_the_pages(full: Store[str], count: int) -> None:
    keys = list(full.scan(count=count))
    assert len(keys) == MANY
    assert set(keys) == set(full)


def test_views_are_live(store: Store[str]) -> None:
    keys, values, items = store.keys(), store.values(), store.items()
    assert isinstance(keys, KeysView)
    assert isinstance(values, ValuesView)
    assert isinstance(items, ItemsView)
    store["a"] = "1"
    assert (list(keys), list(values), list(items)) == (["a"], ["1"], [("a", "1")])
    assert len(keys) == len(values) == len(items) == 1
    assert ("a" in keys, b"a" in keys, "b" in keys, 5 in keys) == (True, True, False, False)
    assert ("1" in values, "2" in values, 5 in values) == (True, False, False)
    assert (("a", "1") in items, ("a", "2") in items, "a" in items, (5, "1") in items) == (
        True,
        False,
        False,
        False,
    )
    assert (b"a", "1") in items
    assert repr(keys) == "<keys of <atbr.Store 1 entry, values=str>>"


OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a & b,
    lambda a, b: a | b,
    lambda a, b: a - b,
    lambda a, b: a ^ b,
    lambda a, b: b & a,
    lambda a, b: b | a,
    lambda a, b: b - a,
    lambda a, b: b ^ a,
    lambda a, b: a == b,
    lambda a, b: a != b,
    lambda a, b: a <= b,
    lambda a, b: a < b,
    lambda a, b: a >= b,
    lambda a, b: a > b,
    lambda a, b: b <= a,
    lambda a, b: b > a,
    lambda a, b: a.isdisjoint(b),
]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("other", [set(), {"a"}, {"a", "b"}, {"a", "b", "c"}, {"x"}, {"a", "x"}])
@pytest.mark.parametrize("kind", [str, bytes])
def test_set_operations_are_those_of_a_dicts_keys(
    operation: Any, other: set[str], kind: Any
) -> None:
    entries = {"a": "1", "b": "2"}
    expected = operation(entries.keys(), other)
    store = Store(entries)
    # The other side's keys may be of either type.
    given = other if kind is str else {key.encode() for key in other}
    assert operation(store.keys(), given) == expected


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "other", [set(), {("a", "1")}, {("a", "1"), ("b", "2")}, {("a", "2"), ("b", "2"), ("x", "")}]
)
def test_set_operations_are_those_of_a_dicts_items(operation: Any, other: set[Any]) -> None:
    entries = {"a": "1", "b": "2"}
    expected = operation(entries.items(), other)
    store = Store(entries)
    assert operation(store.items(), other) == expected
    assert operation(store.items(), {(key.encode(), value) for key, value in other}) == expected


def test_set_operations_take_views_of_other_stores() -> None:
    one, two = Store({"a": "1", "b": "2"}), Store({"b": "2", "c": "3"}, keys=bytes)
    assert one.keys() & two.keys() == {"b"}
    assert two.keys() & one.keys() == {b"b"}
    assert one.keys() | two.keys() == {"a", "b", "c"}
    assert one.items() - two.items() == {("a", "1")}
    assert one.keys() - ["a", 5] == {"b"}
    with pytest.raises(TypeError):
        one.keys() & 5  # type: ignore[operator]
    with pytest.raises(TypeError):
        assert one.keys() < ["a"]  # type: ignore[operator]


def test_one_iterator_may_be_shared_by_threads(full: Store[str]) -> None:
    import threading

    iterator = iter(full)
    seen: list[list[str]] = [[], [], []]

    def drain(own: list[str]) -> None:
        own.extend(iterator)

    threads = [threading.Thread(target=drain, args=(own,)) for own in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = [key for own in seen for key in own]
    assert len(everything) == MANY
    assert set(everything) == set(full)
