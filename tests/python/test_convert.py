"""Keys and values at the border: wrong types, wrong encodings, limits."""

from __future__ import annotations

import array
import mmap
from collections.abc import Callable
from typing import Any

import pytest

from atbr import Store
from atbr._core import types_of

MAX_KEY = 64 * 1024
SURROGATE = "a\udc80b"

KEY_USES: list[Callable[[Store[str], Any], Any]] = [
    lambda s, k: s[k],
    lambda s, k: s.get(k),
    lambda s, k: k in s,
    lambda s, k: s.__setitem__(k, "v"),
    lambda s, k: s.__delitem__(k),
    lambda s, k: s.pop(k, None),
    lambda s, k: s.setdefault(k, "v"),
    lambda s, k: s.delete(k),
    lambda s, k: s.add(k, "v"),
    lambda s, k: s.append(k, "v"),
    lambda s, k: s.incr(k),
    lambda s, k: s.compare_and_set(k, None, "v"),
    lambda s, k: s.get_many([k]),
    lambda s, k: s.mget([k]),
    lambda s, k: s.set_many([(k, "v")]),
    lambda s, k: s.delete_many([k]),
    lambda s, k: s.update([(k, "v")]),
]
VALUE_USES: list[Callable[[Store[Any], Any], Any]] = [
    lambda s, v: s.__setitem__("k", v),
    lambda s, v: s.setdefault("k", v),
    lambda s, v: s.add("k", v),
    lambda s, v: s.append("k", v),
    lambda s, v: s.compare_and_set("k", None, v),
    lambda s, v: s.compare_and_set("k", v, b"" if types_of(s)[1] is bytes else ""),
    lambda s, v: s.set_many({"k": v}),
    lambda s, v: s.update(k=v),
]


@pytest.mark.parametrize("key", [1, 1.5, None, ("a",), bytearray(b"a"), memoryview(b"a"), object()])
@pytest.mark.parametrize("use", KEY_USES)
def test_a_key_that_is_neither_str_nor_bytes_is_a_type_error(use: Any, key: Any) -> None:
    store = Store({"a": "1"})
    with pytest.raises(TypeError, match=f"key must be str or bytes, not {type(key).__name__}"):
        use(store, key)
    assert dict(store) == {"a": "1"}


@pytest.mark.parametrize("value", [1, b"a", bytearray(b"a"), ["a"]])
@pytest.mark.parametrize("use", VALUE_USES)
def test_a_value_that_is_not_str_is_a_type_error_in_a_str_store(use: Any, value: Any) -> None:
    store = Store({"a": "1"})
    with pytest.raises(TypeError, match=f"value must be str, not {type(value).__name__}"):
        use(store, value)
    assert dict(store) == {"a": "1"}


@pytest.mark.parametrize("value", [1, None, "a", ["a"], object()])
def test_a_value_that_is_no_buffer_is_a_type_error_in_a_bytes_store(value: Any) -> None:
    store = Store(values=bytes)
    with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
        store["k"] = value
    assert not store


@pytest.mark.parametrize(
    "value",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(bytearray(b"abc")),
        memoryview(b"xabcx")[1:4],
        array.array("b", b"abc"),
    ],
)
def test_any_contiguous_buffer_is_a_value(value: Any) -> None:
    store = Store(values=bytes)
    for use in VALUE_USES:
        store.clear()
        use(store, value)
    assert store["k"] == b"abc"
    store["k"] = value
    assert store["k"] == b"abc"
    assert type(store["k"]) is bytes


def test_a_buffer_of_wide_items_is_stored_as_its_bytes() -> None:
    numbers = array.array("i", [1, -2])
    assert Store({"k": numbers}, values=bytes)["k"] == numbers.tobytes()


@pytest.mark.parametrize("buffer", [memoryview(b"abcdef")[::2], memoryview(b"abc")[::-1]])
def test_a_buffer_that_is_not_contiguous_is_a_type_error(buffer: memoryview) -> None:
    store = Store(values=bytes)
    with pytest.raises(TypeError, match="contiguous"):
        store["k"] = buffer
    assert not store


def test_a_released_buffer_is_refused() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        Store(values=bytes)["k"] = view


def test_a_big_mutable_buffer_can_change_while_it_is_stored() -> None:
    buffer = bytearray(1_000_000)
    store = Store({"k": buffer}, values=bytes)
    buffer[:] = b"x" * len(buffer)
    buffer.append(1)
    assert store["k"] == bytes(1_000_000)


def test_subclasses_of_str_and_bytes_are_keys_and_values() -> None:
    class Text(str):
        __slots__ = ()

    class Data(bytes):
        __slots__ = ()

    store = Store({Text("a"): Text("1")})
    assert store[Data(b"a")] == "1"
    assert type(next(iter(store))) is str
    assert type(store["a"]) is str
    assert type(Store({"a": Data(b"1")}, values=bytes)["a"]) is bytes


@pytest.mark.parametrize("use", KEY_USES)
def test_a_lone_surrogate_is_no_key(use: Any) -> None:
    store = Store({"a": "1"})
    with pytest.raises(UnicodeEncodeError):
        use(store, SURROGATE)
    assert dict(store) == {"a": "1"}


@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_a_lone_surrogate_is_no_value(errors: Any) -> None:
    store = Store(errors=errors)
    with pytest.raises(UnicodeEncodeError):
        store["k"] = SURROGATE
    assert not store


@pytest.mark.parametrize("release", ["auto", "always"])
def test_surrogateescape_reads_and_writes_any_bytes(release: Any) -> None:
    store = Store(errors="surrogateescape", release_gil=release)
    raw = store.view(keys=bytes, values=bytes)
    store[SURROGATE] = SURROGATE
    assert dict(raw) == {b"a\x80b": b"a\x80b"}
    assert store[SURROGATE] == store[b"a\x80b"] == SURROGATE
    assert SURROGATE in store
    assert dict(store) == {SURROGATE: SURROGATE}
    assert store.get_many([SURROGATE]) == {SURROGATE: SURROGATE}
    assert store.pop(SURROGATE) == SURROGATE
    with pytest.raises(UnicodeEncodeError):
        store["\ud800"] = "x"


@pytest.mark.parametrize("release", ["auto", "always"])
def test_replace_reads_what_is_not_utf8(release: Any) -> None:
    store = Store(errors="replace", release_gil=release)
    store.view(values=bytes)["k"] = b"a\xffb"
    assert store["k"] == "a\ufffdb"
    assert list(store.values()) == ["a\ufffdb"]
    assert store.pop("k") == "a\ufffdb"


@pytest.mark.parametrize(
    "bad", [b"\xff", b"ab\xff" * 10_000, b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"ok\xc3"]
)
@pytest.mark.parametrize("release", ["auto", "always"])
def test_a_strict_read_of_what_is_not_utf8_names_the_key(bad: bytes, release: Any) -> None:
    store = Store(release_gil=release)
    raw = store.view(keys=bytes, values=bytes)
    raw["the key"] = bad
    for use in (
        lambda: store["the key"],
        lambda: store.get("the key"),
        lambda: store.pop("the key"),
        lambda: store.popitem(),
        lambda: store.setdefault("the key", "x"),
        lambda: store.mget(["the key"]),
        lambda: store.get_many(["the key"]),
        lambda: list(store.values()),
        lambda: list(store.items()),
    ):
        with pytest.raises(UnicodeDecodeError, match='"the key"') as caught:
            use()
        assert caught.value.object == bad
        assert raw["the key"] == bad, "what cannot be given back must not be lost"
    assert "the key" in store
    assert list(store) == ["the key"]


def test_a_key_that_is_not_utf8_is_named_as_bytes(store: Store[str]) -> None:
    store[b"\xff"] = "1"
    with pytest.raises(UnicodeDecodeError, match=r'key b"\\xff"'):
        list(store)
    with pytest.raises(UnicodeDecodeError):
        store.popitem()
    assert store[b"\xff"] == "1"


def test_an_iterator_goes_on_after_an_entry_that_does_not_decode(store: Store[str]) -> None:
    store.update({str(i): "x" for i in range(100)})
    store[b"\xff"] = "1"
    iterator, keys, errors = iter(store), [], 0
    while True:
        try:
            keys.append(next(iterator))
        except UnicodeDecodeError:
            errors += 1
        except StopIteration:
            break
    assert (len(keys), errors) == (100, 1)


def test_empty_keys_and_nul_bytes_are_keys(types: tuple[type, type]) -> None:
    store = Store(keys=types[0])
    for key in ("", "\0", "\0\0", "a\0", "\0a"):
        store[key] = f"<{key}>"
    assert len(store) == 5
    assert [store[key] for key in ("", "\0", "\0\0", "a\0", "\0a")] == [
        "<>",
        "<\0>",
        "<\0\0>",
        "<a\0>",
        "<\0a>",
    ]


def test_the_longest_key_is_64_kib(store: Store[str]) -> None:
    longest = "k" * MAX_KEY
    store[longest] = "v"
    assert store[longest] == "v"
    assert list(store) == [longest]
    assert store.delete(longest)


@pytest.mark.parametrize("use", KEY_USES[3:4] + KEY_USES[6:7] + KEY_USES[8:12] + KEY_USES[14:15])
def test_a_longer_key_is_a_value_error_that_names_the_limit(use: Any) -> None:
    store = Store({"a": "1"})
    with pytest.raises(ValueError, match=r"65537 bytes .* limit is 65536"):
        use(store, "k" * (MAX_KEY + 1))
    assert dict(store) == {"a": "1"}


def test_a_longer_key_is_simply_not_there(store: Store[str]) -> None:
    key = "k" * (MAX_KEY + 1)
    assert key not in store
    assert store.get(key) is None
    assert store.mget([key]) == [None]
    with pytest.raises(KeyError):
        store[key]


@pytest.mark.deep
def test_a_value_of_4_gib_is_a_value_error_that_names_the_limit() -> None:
    store = Store(values=bytes)
    with mmap.mmap(-1, 2**32) as zeros, pytest.raises(ValueError, match="limit is 4294967295"):
        store["k"] = zeros
    assert not store


def test_what_a_dict_takes_update_takes(store: Store[str]) -> None:
    class Keyed:
        def keys(self) -> list[str]:
            return ["a"]

        def __getitem__(self, key: str) -> str:
            return key * 2

    store.update(Keyed())
    store.update([["b", "1"], ("c", "2")])
    store.update(iter([("d", "3")]), e="4")
    store.update({"f": "5"}, g="6")
    store.update(["hi"])
    assert store == {
        "a": "aa",
        "b": "1",
        "c": "2",
        "d": "3",
        "e": "4",
        "f": "5",
        "g": "6",
        "h": "i",
    }
