"""pytest-benchmark: what a call costs, with dict in the same run (``make bench``)."""

from __future__ import annotations

import random
from typing import Any

import pytest

import atbr
import dataset
import memory

ROWS = 1_000_000
BATCH = 1_000


def filled(kind: str) -> Any:
    path = dataset.fixed(ROWS)
    if kind == "dict":
        return memory.fill_dict(path)
    store = atbr.Store(values=bytes)
    store.load(path)
    return store


@pytest.fixture(scope="module", params=["store", "dict"])
def full(request: pytest.FixtureRequest) -> Any:
    return filled(request.param)


@pytest.fixture(scope="module")
def store() -> Any:
    return filled("store")


@pytest.fixture(scope="module")
def plain() -> Any:
    return filled("dict")


@pytest.fixture(scope="module")
def keys() -> list[str]:
    pick = random.Random(0)
    return [dataset.fixed_key(pick.randrange(ROWS)) for _ in range(BATCH)]


def each(source: Any, keys: list[str]) -> None:
    for key in keys:
        source.get(key)


def put_each(target: Any, keys: list[str]) -> None:
    for key in keys:
        target[key] = b"value of thirty-two bytes, about"


def test_get_hit(benchmark: Any, full: Any, keys: list[str]) -> None:
    benchmark(each, full, keys)


def test_get_miss(benchmark: Any, full: Any, keys: list[str]) -> None:
    benchmark(each, full, [key + "!" for key in keys])


def test_set(benchmark: Any, full: Any, keys: list[str]) -> None:
    benchmark(put_each, full, keys)


def test_mget(benchmark: Any, store: Any, keys: list[str]) -> None:
    assert None not in benchmark(store.mget, keys)


def test_mget_by_dict(benchmark: Any, plain: Any, keys: list[str]) -> None:
    assert None not in benchmark(lambda: [plain.get(key) for key in keys])


def test_get_many(benchmark: Any, store: Any, keys: list[str]) -> None:
    assert len(benchmark(store.get_many, keys)) == len(set(keys))


def test_get_many_by_dict(benchmark: Any, plain: Any, keys: list[str]) -> None:
    assert len(benchmark(lambda: {key: plain[key] for key in keys if key in plain})) == len(
        set(keys)
    )


@pytest.mark.parametrize("kind", ["store", "dict"])
def test_load(benchmark: Any, kind: str) -> None:
    assert len(benchmark.pedantic(filled, args=(kind,), rounds=3)) == ROWS
