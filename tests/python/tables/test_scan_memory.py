"""A scan holds some pages, however many rows there are, and a look-up of many as much of large values."""

from __future__ import annotations

import tracemalloc
import uuid
from typing import Any

import pytest

from atbr.tables import connect

ROWS = 120_000
VALUE = b"v" * 200


@pytest.mark.parametrize("engine", ["local", "sqlite", "postgresql", "redis"])
def test_a_scan_takes_as_much_memory_as_its_pages(urls: Any, engine: str) -> None:
    with connect(urls[engine], namespace=f"n{uuid.uuid4().hex[:12]}") as db:
        db.setup_namespace({"t": (str, int)})
        table = db["t"]
        for at in range(0, ROWS, 20_000):
            table.put_many([(("k", i), VALUE) for i in range(at, at + 20_000)])
        tracemalloc.start()
        try:
            assert sum(1 for _ in table.scan()) == ROWS
            assert sum(1 for _ in table.scan_keys(reverse=True)) == ROWS
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # All of it is 40 MB as objects; a page is half a megabyte of rows, some of them at a time.
        assert peak < 8 * 2**20, peak
        db.delete_namespace()


@pytest.mark.parametrize("engine", ["local", "sqlite", "postgresql", "redis"])
def test_a_look_up_of_many_large_values_takes_some_of_them_at_a_time(
    urls: Any, engine: str
) -> None:
    count, value = 200, b"v" * 2**20
    with connect(urls[engine], namespace=f"n{uuid.uuid4().hex[:12]}") as db:
        db.setup_namespace({"t": (int,)})
        for i in range(count):
            db["t"].put((i,), value)
        for keys in ([(i,) for i in range(count)], ((i,) for i in range(count))):
            tracemalloc.start()
            try:
                with connect(urls[engine], namespace=db.namespace) as fresh:
                    pairs = fresh["t"].get_many(keys)
                    found = sum(len(value or b"") for _, value in pairs)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert found == count * len(value)
            # 64 before it knows how large they are, with what the driver holds of the same.
            assert peak < 150 * 2**20, peak
        db.delete_namespace()
