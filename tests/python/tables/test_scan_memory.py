"""A scan holds some pages, however many rows there are."""

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
