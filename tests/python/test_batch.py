"""Operations on many keys."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from atbr import Store

# More than one chunk, and not a multiple of one.
MANY = 10_001


def numbered(count: int) -> dict[str, str]:
    return {f"key {i}": f"value {i}" for i in range(count)}


SOURCES: list[Callable[[Any], Any]] = [
    list,
    tuple,
    set,
    dict.fromkeys,
    iter,
    lambda x: (k for k in x),
]


@pytest.mark.parametrize("source", SOURCES)
def test_get_many_finds_what_is_there_and_omits_the_rest(source: Any, store: Store[str]) -> None:
    entries = numbered(MANY)
    store.update(entries)
    wanted = [*list(entries)[::3], "none", b"key 1", b"neither"]
    expected = {key: entries[key] for key in list(entries)[::3]} | {b"key 1": "value 1"}
    assert store.get_many(source(wanted)) == expected


def test_get_many_keys_its_dict_by_the_callers_objects(store: Store[str]) -> None:
    class Key(str):
        __slots__ = ()

    key = Key("a")
    store["a"] = "1"
    [found] = store.get_many([key])
    assert found is key


@pytest.mark.parametrize("source", [list, tuple, iter])
def test_mget_keeps_order_and_duplicates(source: Any, store: Store[str]) -> None:
    store.update(numbered(MANY))
    default = object()
    wanted = [f"key {i}" for i in range(MANY + 5, -1, -1)] * 2 + ["none"]
    found = store.mget(source(wanted), default)
    assert found == [f"value {key[4:]}" if key in store else default for key in wanted]
    assert store.mget(["none"]) == [None]
    assert store.mget([]) == []


def test_mget_reads_values_of_every_size() -> None:
    store = Store({str(n): bytes(n) for n in range(0, 20_000, 371)}, values=bytes)
    assert [len(v) for v in store.mget([str(n) for n in range(0, 20_000, 371)])] == list(
        range(0, 20_000, 371)
    )


@pytest.mark.parametrize(
    "source", [dict, UserDict, lambda d: list(d.items()), lambda d: iter(d.items())]
)
def test_set_many_stores_all_and_counts_the_new(source: Any, store: Store[str]) -> None:
    entries = numbered(MANY)
    store["key 0"] = "old"
    assert store.set_many(source(entries)) == MANY - 1
    assert dict(store) == entries


def test_the_later_of_equal_keys_wins(store: Store[str]) -> None:
    store.set_many([("a", "1"), (b"a", "2"), ("b", "3"), ("a", "4")])
    assert dict(store) == {"a": "4", "b": "3"}
    store.update({"c": "1", b"c": "2"})
    assert store["c"] == "2"


@pytest.mark.parametrize(
    "bad", [(1, "v"), ("k", 1), ("k",), 5, ("\ud800", "v"), ("k" * 65_537, "v")]
)
def test_a_sized_batch_with_a_bad_item_writes_nothing(bad: Any, store: Store[str]) -> None:
    store["a"] = "1"
    pairs = [*numbered(MANY).items(), bad]
    for write in (store.set_many, store.update):
        with pytest.raises((TypeError, ValueError)) as caught:
            write(pairs)
        assert caught.value.written == 0  # type: ignore[attr-defined]
        assert dict(store) == {"a": "1"}


def test_an_iterator_with_a_bad_item_leaves_whole_chunks(store: Store[str]) -> None:
    pairs = [*numbered(MANY).items(), ("bad", 1)]
    with pytest.raises(TypeError, match="value must be str") as caught:
        store.update(iter(pairs))
    written = caught.value.written  # type: ignore[attr-defined]
    assert 0 < written <= MANY
    assert dict(store) == dict(pairs[:written])


def test_an_iterator_that_raises_leaves_whole_chunks(store: Store[str]) -> None:
    class OwnError(Exception):
        pass

    def pairs() -> Iterator[tuple[str, str]]:
        yield from numbered(MANY).items()
        raise OwnError

    with pytest.raises(OwnError) as caught:
        store.set_many(pairs())
    assert caught.value.written == len(store)  # type: ignore[attr-defined]


def test_a_bad_key_in_delete_many_deletes_nothing(store: Store[str]) -> None:
    store.update(numbered(100))
    with pytest.raises(TypeError):
        store.delete_many([*store, 1])  # type: ignore[list-item]
    assert len(store) == 100


@pytest.mark.parametrize("source", [list, tuple, set, iter])
def test_delete_many_counts_what_was_there(source: Any, store: Store[str]) -> None:
    entries = numbered(MANY)
    store.update(entries)
    assert store.delete_many(source([*list(entries)[: MANY // 2], "none"])) == MANY // 2
    assert dict(store) == dict(list(entries.items())[MANY // 2 :])


@pytest.mark.parametrize("method", ["get_many", "mget", "set_many", "delete_many"])
def test_a_batch_of_no_iterable_is_a_type_error(method: str, store: Store[str]) -> None:
    with pytest.raises(TypeError):
        getattr(store, method)(5)


def test_buffers_are_values_of_batches() -> None:
    store = Store(values=bytes)
    store.set_many({"a": bytearray(b"1"), "b": memoryview(b"2")})
    assert dict(store) == {"a": b"1", "b": b"2"}


def test_a_batch_does_not_mind_the_list_changing_meanwhile(store: Store[str]) -> None:
    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            keys.clear()
            return super().__hash__()

    store.update(numbered(10))
    keys: list[str] = [Key(key) for key in store]
    assert len(store.get_many(keys)) == 10


def test_update_from_a_store_copies_bytes() -> None:
    source = Store({f"{i}": bytes([i % 256]) for i in range(MANY)}, values=bytes)
    target = Store()
    target.update(source)
    assert target == source
    target |= source.view(keys=bytes)
    assert len(target) == MANY


def test_a_signal_ends_a_batch(run_python: Callable[..., str]) -> None:
    program = """
import os, signal, threading
import atbr

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

signal.signal(signal.SIGUSR1, stop)
store = atbr.Store({"a": "1"})

def endless():
    os.kill(os.getpid(), signal.SIGUSR1)
    while True:
        yield "a"

class Keys:
    # A C iterator: no Python code runs between two items, so only the batch can see the signal.
    def __iter__(self):
        import itertools
        os.kill(os.getpid(), signal.SIGUSR1)
        return itertools.repeat("a")

for use in (store.mget, store.get_many, store.delete_many):
    for keys in (endless(), Keys()):
        try:
            use(keys)
        except Stop:
            continue
        print("not stopped")
for what in (iter(store), store.items(), store.values(), store.scan()):
    list(what)
print("done")
"""
    assert run_python(program) == "done\n"
