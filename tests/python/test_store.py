"""Operations on single keys, in all modes, and how a store lives and ends."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import pytest

import atbr
from atbr import JSON, Store


def own(text: str, kind: type) -> Any:
    return text if kind is str else text.encode()


def test_a_store_is_a_mutable_mapping(store: Store[str]) -> None:
    assert isinstance(store, MutableMapping)
    match store:
        case {}:
            pass
        case _:
            pytest.fail("a mapping pattern does not match")


def test_subscription_runs_no_python_code() -> None:
    for method in ("__getitem__", "__setitem__", "__contains__", "__len__", "__iter__", "get"):
        assert method not in vars(Store)
    calls = []
    store = Store({"a": "1"})
    sys.setprofile(lambda frame, event, _: calls.append((event, frame.f_code.co_name)))
    try:
        store["a"]
        store["b"] = "2"
        "a" in store  # noqa: B015
    finally:
        sys.setprofile(None)
    assert not [name for event, name in calls if event == "call"]


def test_what_is_stored_comes_back_in_the_types_of_the_store(types: tuple[type, type]) -> None:
    keys, values = types
    store = Store(keys=keys, values=values)
    store["schlüssel"] = own("wert €", values)
    store["schlüssel".encode()] = own("wert 2", values)
    assert len(store) == 1
    assert list(store) == [own("schlüssel", keys)]
    assert list(store.items()) == [(own("schlüssel", keys), own("wert 2", values))]
    assert store["schlüssel"] == store["schlüssel".encode()] == own("wert 2", values)
    key, value = store.popitem()
    assert (type(key), type(value)) == types
    assert not store


@pytest.mark.parametrize(
    "text", ["", "\0", "a\0b", "ä", "€", "😀", "a" * 5_000, "ä" * 5_000, "x" * 3_000_000]
)
def test_any_text_is_a_value(text: str) -> None:
    for release in ("auto", "always", "never"):
        store = Store({"k": text}, release_gil=release)
        assert store["k"] == text
        assert store.get("k") == text
        assert store.mget(["k"]) == [text]
        assert list(store.values()) == [text]
        assert store.setdefault("k", "") == text
        assert store.view(values=bytes)["k"] == text.encode()
        assert store.pop("k") == text


@pytest.mark.parametrize(
    "length", [0, 1, 2, 63, 64, 127, 128, 255, 4_096, 4_097, 65_536, 1_000_003]
)
def test_any_bytes_are_a_value(length: int) -> None:
    data = bytes(i * 7 % 256 for i in range(length))
    store = Store({b"k": data}, values=bytes)
    assert store["k"] == data
    assert store.pop("k") == data


def test_a_missing_key_raises_key_error_with_the_callers_object(store: Store[str]) -> None:
    class Key(str):
        __slots__ = ()

    key = Key("none")
    for action in (store.__getitem__, store.__delitem__, store.pop):
        with pytest.raises(KeyError) as caught:
            action(key)
        assert caught.value.args[0] is key


def test_get_returns_the_default_object(store: Store[str]) -> None:
    default = object()
    assert store.get("none") is None
    assert store.get("none", default) is default
    assert store.get("none", default=default) is default
    assert store.pop("none", None) is None
    assert store.pop("none", default) is default


def test_delete_tells_whether_the_key_was_there(store: Store[str]) -> None:
    store["a"] = "1"
    assert store.delete("a") is True
    assert store.delete("a") is False


def test_add_stores_only_what_is_missing(store: Store[str]) -> None:
    assert store.add("a", "1") is True
    assert store.add("a", "2") is False
    assert store["a"] == "1"


def test_setdefault_stores_once(types: tuple[type, type]) -> None:
    keys, values = types
    store = Store(keys=keys, values=values)
    assert store.setdefault("a", own("1", values)) == own("1", values)
    assert store.setdefault("a", own("2", values)) == own("1", values)
    with pytest.raises(TypeError, match="default"):
        store.setdefault("b")
    assert store.setdefault("a") == own("1", values)


def test_setdefault_of_a_buffer_returns_bytes() -> None:
    store = Store(values=bytes)
    value = store.setdefault("a", bytearray(b"xyz"))
    assert type(value) is bytes
    assert value == store["a"] == b"xyz"


def test_append_returns_the_new_length_in_bytes(types: tuple[type, type]) -> None:
    _, values = types
    store = Store(values=values)
    assert store.append("a", own("ä", values)) == 2
    assert store.append("a", own("bc", values)) == 4
    assert store["a"] == own("äbc", values)


def test_append_grows_a_value_past_every_size_class(store: Store[str]) -> None:
    expected = ""
    for i in range(400):
        piece = chr(97 + i % 26) * (i * 3)
        expected += piece
        assert store.append("log", piece) == len(expected)
    assert store["log"] == expected


def test_incr_counts_in_decimal_text(types: tuple[type, type]) -> None:
    _, values = types
    store = Store(values=values)
    assert store.incr("n") == 1
    assert store.incr("n", 41) == 42
    assert store.incr("n", -50) == -8
    assert store["n"] == own("-8", values)
    assert store.incr("m", 5, initial=100) == 105


@pytest.mark.parametrize("value", ["", "x", "1.5", " 1", "1 ", "9" * 30, "0x1", "--1", "1_0"])
def test_incr_refuses_what_is_no_integer(store: Store[str], value: str) -> None:
    store["n"] = value
    with pytest.raises(ValueError, match="integer"):
        store.incr("n")
    assert store["n"] == value


def test_incr_refuses_to_overflow(store: Store[str]) -> None:
    store["n"] = str(2**63 - 1)
    with pytest.raises(OverflowError):
        store.incr("n")
    assert store["n"] == str(2**63 - 1)
    with pytest.raises(OverflowError):
        store.incr("n", 2**63)
    with pytest.raises(TypeError):
        store.incr("n", "1")  # type: ignore[arg-type]


def test_compare_and_set_stores_only_on_equality(types: tuple[type, type]) -> None:
    _, values = types
    one, two = own("1", values), own("2", values)
    store = Store(values=values)
    assert store.compare_and_set("a", one, two) is False
    assert store.compare_and_set("a", None, one) is True
    assert store.compare_and_set("a", None, two) is False
    assert store.compare_and_set("a", two, one) is False
    assert store.compare_and_set("a", one, two) is True
    assert store["a"] == two


def test_popitem_empties_a_store_and_then_raises(store: Store[str]) -> None:
    entries = {f"k{i}": f"v{i}" for i in range(3_000)}
    store.update(entries)
    popped = dict(store.popitem() for _ in range(3_000))
    assert popped == entries
    with pytest.raises(KeyError, match="empty"):
        store.popitem()


def test_clear_leaves_nothing(store: Store[str]) -> None:
    store.update({str(i): "x" * i for i in range(1_000)})
    store.clear()
    assert (len(store), list(store), store.get("1")) == (0, [], None)
    store["a"] = "1"
    assert dict(store) == {"a": "1"}


def test_reserve_and_compact_change_no_entry(store: Store[str]) -> None:
    entries = {str(i): "x" * (i % 50) for i in range(5_000)}
    store.update(entries)
    for key in list(entries)[::2]:
        del store[key], entries[key]
    store.reserve(10_000)
    store.compact()
    assert dict(store) == entries
    with pytest.raises(OverflowError):
        store.reserve(-1)


def test_a_view_is_a_second_handle_on_the_same_data(store: Store[str]) -> None:
    view = store.view(keys=bytes, values=bytes)
    assert isinstance(view, Store)
    view["ä"] = b"\xff\xfe"
    assert len(store) == 1
    assert dict(view) == {"ä".encode(): b"\xff\xfe"}
    store["b"] = "2"
    assert view[b"b"] == b"2"
    assert view.view(keys=str, values=str)["b"] == "2"


def test_a_copy_shares_nothing(types: tuple[type, type]) -> None:
    keys, values = types
    store = Store({"a": own("1", values)}, keys=keys, values=values)
    for copied in (store.copy(), copy.copy(store), copy.deepcopy(store)):
        assert type(copied) is type(store)
        assert copied == store
        copied["a"] = own("2", values)
        copied["b"] = own("3", values)
        assert dict(store) == {own("a", keys): own("1", values)}


def test_a_copy_of_many_entries_is_equal(store: Store[str]) -> None:
    store.update({f"key {i}": "x" * (i % 100) for i in range(20_000)})
    assert store.copy() == store


@pytest.mark.parametrize("hasher", ["fast", "siphash"])
def test_a_copy_hashes_as_the_original_does(hasher: Any) -> None:
    # One seed and one function give one order, but for neighbours in a bucket; another gives another.
    store = Store(dict.fromkeys(map(str, range(1_000)), ""), hasher=hasher, seed=7)
    for other in (store.copy(), store.view().copy().copy()):
        assert sum(a == b for a, b in zip(store, other, strict=True)) > 900
    other = Store(store, hasher=hasher, seed=8)
    assert sum(a == b for a, b in zip(store, other, strict=True)) < 100


def test_a_store_cannot_be_pickled(store: Store[str]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"save\(\)"):
            pickle.dumps(store, protocol)


def test_equality_is_that_of_a_dict(store: Store[str]) -> None:
    entries = {"a": "1", "b": "2"}
    store.update(entries)
    assert store == entries
    assert entries == store
    assert store == OrderedDict(entries)
    assert store == ChainMap(entries)
    assert store != {"a": "1"}
    assert store != {"a": "1", "b": "3"}
    assert store != {"a": "1", "c": "2"}
    assert store != {"a": "1", 5: "2"}
    assert store != {"a": "1", "\ud800": "2"}
    assert store != {"a": "1", "b": b"2"}
    assert store != [("a", "1"), ("b", "2")]
    assert store == {"a": "1", b"b": "2"}


def test_stores_are_equal_by_bytes() -> None:
    text = Store({"ä": "ö"})
    raw = Store({"ä".encode(): "ö".encode()}, keys=bytes, values=bytes)
    assert text == raw
    assert text == text.view(values=bytes)
    raw["b"] = b""
    assert text != raw


def test_a_store_is_unhashable(store: Store[str]) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(store)


def test_union_takes_the_right_sides_values(store: Store[str]) -> None:
    store.update({"a": "1", "b": "2"})
    both = store | {"b": "3", "c": "4"}
    assert type(both) is Store
    assert both == {"a": "1", "b": "3", "c": "4"}
    assert {"b": "3", "c": "4"} | store == {"a": "1", "b": "2", "c": "4"}
    assert (UserDict({"z": "0"}) | store) == {"a": "1", "b": "2", "z": "0"}
    assert dict(store) == {"a": "1", "b": "2"}
    store |= [("d", "5")]
    assert store["d"] == "5"
    with pytest.raises(TypeError):
        store | [("a", "1")]


def test_fromkeys_gives_every_key_the_value() -> None:
    assert Store.fromkeys("ab", "0") == {"a": "0", "b": "0"}
    assert Store.fromkeys(["a"], b"0", values=bytes) == {"a": b"0"}
    assert Store.fromkeys([], "0") == {}


def test_the_repr_is_short() -> None:
    store = Store()
    assert repr(store) == "<atbr.Store 0 entries, values=str>"
    store["a"] = "1"
    assert repr(store) == "<atbr.Store 1 entry, values=str>"
    store.update({str(i): "" for i in range(1_999)})
    assert repr(store) == "<atbr.Store 2,000 entries, values=str>"
    assert (
        repr(Store(keys=bytes, values=bytes)) == "<atbr.Store 0 entries, keys=bytes, values=bytes>"
    )
    assert repr(Store(values=JSON)) == "<atbr.Store 0 entries, values=JSON>"
    assert repr(Store(values=(str, int))) == "<atbr.Store 0 entries, values=(str, int)>"
    store.close()
    assert repr(store) == "<atbr.Store closed>"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"values": int}, TypeError),
        ({"values": "str"}, TypeError),
        ({"values": None}, TypeError),
        ({"values": (str,)}, TypeError),
        ({"values": (str, 1)}, TypeError),
        ({"keys": int}, TypeError),
        ({"keys": None}, TypeError),
        ({"keys": JSON}, TypeError),
        ({"errors": "ignore"}, ValueError),
        ({"hasher": "md5"}, ValueError),
        ({"release_gil": "sometimes"}, ValueError),
        ({"release_gil": True}, TypeError),
        ({"capacity": -1}, OverflowError),
        ({"seed": -1}, OverflowError),
        ({"seed": "x"}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Store(**options)


@pytest.mark.parametrize(
    "entries", [42, [1], ["abc"], [("a",)], [("a", "1", "2")], {"a": 1}, {1: "a"}]
)
def test_wrong_entries_are_refused(entries: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Store(entries)


def test_every_option_gives_a_working_store() -> None:
    for options in (
        {"hasher": "siphash"},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"capacity": 100_000},
        {"release_gil": "always"},
        {"release_gil": "never"},
    ):
        store = Store({"a": "1"}, **options)
        assert dict(store) == {"a": "1"}


CLOSED: list[Callable[[Store[str]], Any]] = [
    lambda s: s["a"],
    lambda s: s["b"],
    lambda s: s.get("a"),
    lambda s: s.get("b", 1),
    lambda s: "a" in s,
    len,
    bool,
    iter,
    list,
    lambda s: list(s.items()),
    lambda s: list(s.values()),
    lambda s: list(s.keys()),
    lambda s: s.__setitem__("a", "1"),
    lambda s: s.__delitem__("a"),
    lambda s: s.pop("a"),
    lambda s: s.pop("a", None),
    lambda s: s.popitem(),
    lambda s: s.setdefault("a", "1"),
    lambda s: s.setdefault("a"),
    lambda s: s.delete("a"),
    lambda s: s.add("a", "1"),
    lambda s: s.append("a", "1"),
    lambda s: s.incr("a"),
    lambda s: s.compare_and_set("a", None, "1"),
    lambda s: s.get_many(["a"]),
    lambda s: s.get_many([]),
    lambda s: s.mget(["a"]),
    lambda s: s.set_many({"a": "1"}),
    lambda s: s.set_many({}),
    lambda s: s.delete_many(["a"]),
    lambda s: s.update({"a": "1"}),
    lambda s: s.scan(),
    lambda s: s.clear(),
    lambda s: s.reserve(1),
    lambda s: s.compact(),
    lambda s: s.copy(),
    lambda s: s.stats(),
    lambda s: s.load("x"),
    lambda s: s.save("x"),
    lambda s: s.__enter__(),
    lambda s: s == {},
    lambda s: s | {},
]


@pytest.mark.parametrize("use", CLOSED)
def test_a_closed_store_refuses_every_use(use: Callable[[Store[str]], Any]) -> None:
    store = Store({"a": "1"})
    store.close()
    assert store.closed
    with pytest.raises(ValueError, match="store is closed"):
        use(store)
    store.close()


def test_closing_ends_running_iterators_and_views(store: Store[str]) -> None:
    store.update({str(i): "" for i in range(10_000)})
    view, iterator = store.view(), iter(store)
    next(iterator)
    store.close()
    assert view.closed
    with pytest.raises(ValueError, match="closed"):
        list(iterator)


def test_with_closes() -> None:
    with Store({"a": "1"}) as store:
        assert store["a"] == "1"
    assert store.closed


def test_a_dropped_view_closes_nothing(store: Store[str]) -> None:
    view = store.view()
    view["a"] = "1"
    del view
    gc.collect()
    assert store["a"] == "1"


def test_a_store_can_be_referenced_weakly() -> None:
    store = Store()
    reference = weakref.ref(store)
    assert reference() is store
    del store
    gc.collect()
    assert reference() is None


def test_exit_closes_live_stores(run_python: Callable[..., str]) -> None:
    program = """
import atexit
stores = []
atexit.register(lambda: print([store.closed for store in stores]))
import atbr
stores += [atbr.Store({"a": "1"}), atbr.Store(values=bytes)]
"""
    assert run_python(program) == "[True, True]\n"


def test_getsizeof_counts_the_entries(store: Store[str]) -> None:
    empty = sys.getsizeof(store)
    store.update({f"{i:08}": "x" * 1_000 for i in range(1_000)})
    assert sys.getsizeof(store) > empty + 1_000_000


def test_an_empty_store_is_small(store: Store[str]) -> None:
    assert sys.getsizeof(store) <= 64 * 1024


def test_stats_count_entries_and_bytes(store: Store[str]) -> None:
    store.update({"ä": "xyz", "b": ""})
    stats = store.stats()
    assert (stats.entries, stats.key_bytes, stats.value_bytes) == (2, 3, 3)
    assert stats.bytes_allocated > 0
    assert stats.shards >= 64
    assert stats.overhead_per_entry == (stats.bytes_allocated - 6) / 2


def test_a_subclass_keeps_its_attributes_and_its_class() -> None:
    class Named(Store[str]):
        def __init__(self, name: str, entries: Any = None, **options: Any) -> None:
            super().__init__(entries, **options)
            self.name = name

        def __new__(cls, name: str, entries: Any = None, **options: Any) -> Any:
            return super().__new__(cls, entries, **options)

    store = Named("n", {"a": "1"})
    assert (store.name, store["a"], type(store.copy())) == ("n", "1", Named)
    assert Named("n", {"a": [1]}, values=JSON)["a"] == [1]


def test_the_class_is_generic_at_run_time() -> None:
    assert Store[str].__origin__ is Store
    assert Store[bytes]({"a": b"1"}, values=bytes)["a"] == b"1"
    assert issubclass(Store, Mapping)


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert atbr.__version__ == version("atbr")
