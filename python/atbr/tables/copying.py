"""A namespace from one engine to another, as bytes: nothing is decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from atbr.tables.backend import Backend, Pair
from atbr.tables.database import Database
from atbr.tables.errors import BadKey, unknown_table
from atbr.tables.ranges import ALL
from atbr.tables.schema import TableSchema

ROWS = 20_000
BYTES = 16 * 2**20


def copy(
    source: Database,
    target: Database,
    tables: Sequence[str] | None = None,
    tick: Callable[[str, int], object] | None = None,
) -> dict[str, int]:
    """Copy tables, all of them by default; return how many rows each has had.

    Tables are made where they are missing; of a key that is in both, the source's value stays. What
    expires (ttl=) is copied as what does not. May be repeated after a failure.

    Raises:
        SchemaMismatch: A table is in the target with other types.
        BadKey: A key is longer than the target's engine takes.
        ValueError: A value is.

    >>> from atbr.tables import connect
    >>> source, target = connect("local://"), connect("local://")
    >>> source.setup_namespace({"users": (str,)})
    >>> source["users"][("ada",)] = b"countess"
    >>> copy(source, target), target["users"][("ada",)]
    ({'users': 1}, b'countess')
    """
    texts = source._backend.schemas()
    names = sorted(texts) if tables is None else list(tables)
    for name in names:
        if name not in texts:
            raise unknown_table(name)
    stored = target._backend.schemas()
    for name in names:
        if name in stored:
            TableSchema.parse(stored[name]).check_same(name, TableSchema.parse(texts[name]))
    target._backend.create({name: texts[name] for name in names})
    return {name: _copy_table(source._backend, target._backend, name, tick) for name in names}


def _copy_table(
    source: Backend, target: Backend, name: str, tick: Callable[[str, int], object] | None
) -> int:
    copied = 0
    held: list[Pair] = []
    size = 0
    started = time.monotonic()
    for page in source.scan(name, ALL, reverse=False, keys_only=False, limit=None):
        _check(target, page)
        held += page
        size += sum(len(key) + len(value) for key, value in page)
        if len(held) >= ROWS or size >= BYTES:
            target.put_many(name, held)
            copied += len(held)
            held, size = [], 0
            if tick is not None and time.monotonic() - started > 0.1:
                tick(name, copied)
                started = time.monotonic()
    if held:
        target.put_many(name, held)
        copied += len(held)
    if tick is not None:
        tick(name, copied)
    return copied


def _check(target: Backend, page: list[Pair]) -> None:
    for key, value in page:
        if len(key) > target.max_key:
            raise BadKey(
                f"a key of {len(key)} bytes is too long; {target.scheme}:// takes {target.max_key}"
            )
        if len(value) > target.max_value:
            raise ValueError(
                f"a value of {len(value)} bytes is too long; "
                f"{target.scheme}:// takes {target.max_value}"
            )
