"""What mypy --strict must understand; checked, and run as well by test_typing.py."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from typing_extensions import assert_type

from atbr import JSON, Atbr, Codec, LoadReport, Progress, SaveReport, Store, StoreStats


def plain() -> None:
    store = Store()
    assert_type(store, Store[str, str])
    store["a"] = "1"
    assert_type(store["a"], str)
    assert_type(store[b"a"], str)
    assert_type(store.get("b"), "str | None")
    assert_type(store.get("b", ""), str)
    assert_type(store.get("b", 0), "str | int")
    assert_type(store.pop("b", None), "str | None")
    assert_type(store.mget(["a"]), "list[str | None]")
    assert_type(store.mget(["a"], ""), "list[str]")
    assert_type(store.get_many(["a"]), "dict[str, str]")
    assert_type(store.get_many([b"a"]), "dict[bytes, str]")
    assert_type(list(store), "list[str]")
    assert_type(list(store.items()), "list[tuple[str, str]]")
    assert_type(store.scan(prefix="a"), Iterator[str])
    assert_type(store.incr("n"), int)
    assert_type(store.stats(), StoreStats)
    assert_type(store.copy(), Store[str, str])
    assert_type(store | {"b": "2"}, Store[str, str])
    mapping: MutableMapping[str, str] = store
    mapping["b"] = "2"
    with store as same:
        assert_type(same, Store[str, str])


def of_bytes() -> None:
    store = Store(values=bytes)
    assert_type(store, Store[bytes, str])
    store["a"] = b"1"
    assert_type(store["a"], bytes)
    raw = Store(keys=bytes, values=bytes)
    assert_type(raw, Store[bytes, bytes])
    assert_type(list(raw), "list[bytes]")
    named: Store[bytes] = Store({"a": b"1"}, values=bytes)
    assert_type(next(iter(named)), str)


def coded() -> None:
    objects = Store(values=JSON)
    assert_type(objects, Store[Any, str])
    objects["a"] = [1, {"b": None}]
    numbers = Store(values=Codec(dumps=str, loads=int))
    assert_type(numbers.get("a", 0), int)


def files(path: str) -> None:
    store = Store()

    def show(progress: Progress) -> None:
        assert_type(progress.rows, int)

    assert_type(store.save(path, progress=show), SaveReport)
    assert_type(store.load(path, threads=2, keep="first", progress=show), LoadReport)
    assert_type(Atbr().get("a"), str)


def mistakes(store: Store[str], raw: Store[bytes]) -> None:
    store["a"] = 1  # type: ignore[assignment]
    store[1] = "a"  # type: ignore[index]
    raw["a"] = "text"  # type: ignore[assignment]
    Store(errors="ignore")  # type: ignore[call-overload]
    Store({"a": 1})  # type: ignore[arg-type]
